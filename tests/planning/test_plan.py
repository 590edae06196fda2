"""Plans: what fits, in which order ways are tried, and what people read."""

from dataclasses import replace

import pytest

from fourdnex.cli import main
from fourdnex.planning import PlanSettings, make_plan, plan_report
from fourdnex.planning.plan import GIB, parse_gpus


@pytest.fixture(scope="module")
def plan():
    return make_plan(PlanSettings(model="tiny", gpus="2x1GB", num_frames=9, rank=4, precision="no"))


def test_training_takes_less_with_every_option(plan):
    assert [option.switches for option in plan.training] == [
        (),
        ("--gradient-checkpointing",),
        ("--gradient-checkpointing", "--shard-model"),
    ]
    peaks = [option.peak for option in plan.training]
    assert peaks[1] < peaks[0]
    assert plan.first_fit(plan.training) is plan.training[0]


def test_parts_add_up(plan):
    option = plan.generation[0]
    assert option.peak == sum(part.size for part in option.resident) + max(phase.size for phase in option.phases)
    assert {part.name for part in option.resident} == {"transformer", "adapter", "text encoder", "image encoder", "VAE"}
    assert option.host == 0
    waiting = next(option for option in plan.generation if option.switches == ("--offload all",))
    sizes = {part.name: part.size for part in option.resident}
    assert waiting.host == sum(sizes.values()) - sizes["VAE"]


def test_the_first_that_fits_is_chosen(plan):
    peaks = sorted({option.peak for option in plan.generation})
    tight = replace(plan, available=peaks[1])
    chosen = tight.first_fit(tight.generation)
    before = tight.generation[: tight.generation.index(chosen)]
    assert chosen.peak <= peaks[1] and all(option.peak > peaks[1] for option in before)
    assert replace(plan, available=1).first_fit(plan.generation) is None


def test_the_report_names_the_command(plan):
    text = plan_report(plan)
    assert "torchrun --nproc-per-node 2 -m fourdnex train --batch-size 2 --rank 4 --mixed-precision no" in text
    assert "fourdnex generate PICTURES SCENES" in text
    assert text.count("> ") == 2
    assert "Nothing fits" in plan_report(replace(plan, available=1))


@pytest.mark.parametrize(
    ("text", "expected"), [("8x80GB", (8, 80 * GIB)), ("24gb", (1, 24 * GIB)), ("2 x 79.6 GiB", (2, round(79.6 * GIB)))]
)
def test_gpus_are_read(text, expected):
    assert parse_gpus(text) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "many"], "gpus: expected number and memory like 8x80GB, got 'many'"),
        (["--gpus", "0x80GB"], "gpus: expected number and memory like 8x80GB"),
        (["--num-frames", "50"], "num_frames: expected 4k+1, got 50; the nearest valid number is 49"),
        (["--height", "500"], "height: expected a multiple of 16, got 500; the nearest valid size is 496"),
        (["--rank", "0"], "rank: expected at least 1, got 0"),
        (["--model", "huge"], "model: expected one of"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(["plan", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_large_base_trains_on_eight_large_gpus_and_generates_on_a_small_one():
    large = make_plan(PlanSettings(gpus="8x80GB"))
    assert large.num_tokens == 35_100
    assert large.first_fit(large.training).switches == ("--gradient-checkpointing",)
    small = make_plan(PlanSettings(gpus="1x24GB"))
    assert small.first_fit(small.training) is None
    assert small.first_fit(small.generation).switches == ("--offload all",)
