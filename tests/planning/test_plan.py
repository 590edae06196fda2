"""Plans: memory of options, their order, the report, and the commands it prints."""

import shlex
from dataclasses import fields, replace

import pytest

from fourdnex.cli import build_parser, main
from fourdnex.planning import PlanSettings, make_plan, plan_report
from fourdnex.planning.plan import GIB, parse_gpus
from fourdnex.training.lora_settings import LoraTraining


@pytest.fixture(scope="module")
def plan():
    return make_plan(PlanSettings(model="tiny", gpus="2x1GB", num_frames=9, rank=4, precision="no", fusion="height"))


def test_each_training_option_needs_less_memory(plan):
    assert [option.switches for option in plan.training] == [
        (),
        ("--gradient-checkpointing",),
        ("--gradient-checkpointing", "--shard-model"),
    ]
    peaks = [option.peak for option in plan.training]
    assert peaks[1] < peaks[0]
    assert plan.first_fit(plan.training) is plan.training[0]
    assert {option.host for option in plan.training} == {
        2 * plan.training[0].resident[0].size
    }  # two processes load the base


def test_items_add_up_to_the_peak(plan):
    option = plan.generation[0]
    assert option.peak == sum(part.size for part in option.resident) + max(phase.size for phase in option.phases)
    assert {part.name for part in option.resident} == {"transformer", "adapter", "text encoder", "image encoder", "VAE"}
    assert option.host == 0
    waiting = next(option for option in plan.generation if option.switches == ("--offload all",))
    sizes = {part.name: part.size for part in option.resident}
    assert waiting.host == sum(sizes.values()) - sizes["VAE"]


def test_first_option_that_fits_is_chosen(plan):
    peaks = sorted({option.peak for option in plan.generation})
    tight = replace(plan, available=peaks[1])
    chosen = tight.first_fit(tight.generation)
    before = tight.generation[: tight.generation.index(chosen)]
    assert chosen.peak <= peaks[1] and all(option.peak > peaks[1] for option in before)
    assert replace(plan, available=1).first_fit(plan.generation) is None


def test_report_prints_the_commands(plan):
    text = plan_report(plan)
    assert "torchrun --nproc-per-node 2 -m fourdnex train --output ADAPTER --batch-size 2 --rank 4" in text
    assert "fourdnex generate IMAGES SCENES" in text
    assert text.count("> ") == 2
    assert "No option fits" in plan_report(replace(plan, available=1))


@pytest.mark.parametrize("num_gpus", [1, 8])
def test_printed_commands_parse(plan, num_gpus):
    def printed(plan):
        """Parsed arguments of the training and the generation command."""
        commands = [line.partition("fourdnex ")[2] for line in plan_report(plan).splitlines() if "--model" in line]
        return [vars(build_parser(shlex.split(line)).parse_args(shlex.split(line))) for line in commands]

    plan = replace(plan, num_gpus=num_gpus)
    for option in plan.training:
        given, _ = printed(replace(plan, training=(option,)))
        assert given.pop("command") == "train"
        given = {key: value for key, value in given.items() if key in {field.name for field in fields(LoraTraining)}}
        config = LoraTraining(**given)
        assert (config.batch_size, config.rank, config.fusion) == (num_gpus, 4, "height")
        assert config.gradient_checkpointing == ("--gradient-checkpointing" in option.switches)
        assert config.shard_model == ("--shard-model" in option.switches)
    for option in plan.generation:
        _, given = printed(replace(plan, generation=(option,)))
        assert (given["command"], given["adapter"], given["batch_size"]) == ("generate", str(config.output), 1)
        assert f"--offload {given.get('offload')}" in option.switches or "offload" not in given


def test_hypothetical_sizes_are_reported(plan):
    note = "training and generation use the base's size, 17 frames of 64x96"
    assert note in plan_report(plan)
    assert note not in plan_report(replace(plan, clip=replace(plan.clip, num_frames=17)))


@pytest.mark.parametrize(
    ("text", "expected"), [("8x80GB", (8, 80 * GIB)), ("24gb", (1, 24 * GIB)), ("2 x 79.6 GiB", (2, round(79.6 * GIB)))]
)
def test_parses_gpus(text, expected):
    assert parse_gpus(text) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "many"], "gpus: expected number and memory such as 8x80GB, got 'many'"),
        (["--gpus", "0x80GB"], "gpus: expected number and memory such as 8x80GB"),
        (["--num-frames", "50"], "num_frames: expected 4k+1, got 50; the nearest valid number is 49"),
        (["--height", "500"], "height: expected a multiple of 16, got 500; the nearest valid size is 496"),
        (["--rank", "0"], "rank: expected at least 1, got 0"),
        (["--model", "huge"], "model: expected one of"),
    ],
)
def test_invalid_arguments_are_reported(arguments, message, capsys):
    assert main(["plan", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_large_base_trains_on_eight_large_gpus_and_generates_on_a_small_one():
    large = make_plan(PlanSettings(gpus="8x80GB"))
    assert large.num_tokens == 35_100
    assert large.first_fit(large.training).switches == ("--gradient-checkpointing",)
    small = make_plan(PlanSettings(gpus="1x24GB"))
    assert small.first_fit(small.training) is None
    assert small.first_fit(small.generation).switches == ("--offload all",)
