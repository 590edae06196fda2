"""Encoding and LoRA training on a real base of random weights and real worlds."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fourdnex.annotation import annotate_shard
from fourdnex.datasets.build import build_data
from fourdnex.files import read_json
from fourdnex.model.adapter import adapter_digest, read_adapter_info
from fourdnex.training.encoding import encode_shard
from fourdnex.training.latent_shards import LatentClips, estimate_statistics
from fourdnex.training.steps import draw, learning_rate_factor
from fourdnex.training.trainer import LoraTraining, TrainingInterrupted, train

SHARD = "worlds-0000"


@pytest.fixture(scope="module")
def latents(tmp_path_factory, random_base) -> Path:
    """Latents of three worlds, made the way the product makes them."""
    root = tmp_path_factory.mktemp("training")
    build_data(root / "data", num_worlds=3, with_real=False)
    report = annotate_shard(root / "data", SHARD, root / "annotated")
    assert report.done == 3
    names = pd.read_parquet(root / "annotated" / f"{SHARD}.parquet")["name"]
    curated = root / "curated.parquet"
    pd.DataFrame({"name": names, "shard": SHARD, "kept": True}).to_parquet(curated)
    report = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (report.asked, report.done, report.set_aside) == (3, 3, ())
    again = encode_shard(root / "annotated", SHARD, curated, root / "latents", model=str(random_base))
    assert (again.done, again.skipped) == (0, 3)
    estimate_statistics(root / "latents")
    return root / "latents"


@pytest.fixture
def config(latents, random_base, tmp_path) -> LoraTraining:
    return LoraTraining(
        latents=latents,
        output=tmp_path / "adapter",
        model=str(random_base),
        steps=4,
        batch_size=2,
        rank=2,
        alpha=2.0,
        warmup_steps=1,
        checkpoint_every=2,
        num_samples=0,
        track=False,
    )


def test_normalised_latents_have_unit_statistics(latents):
    xyz = torch.stack([item["latents"][1] for item in LatentClips(latents)]).flatten(2).transpose(0, 1).flatten(1)
    assert torch.allclose(xyz.mean(dim=1), torch.zeros(16), atol=1e-3)
    assert torch.allclose(xyz.std(dim=1), torch.ones(16), atol=1e-2)


def test_training_writes_an_adapter_that_learned(config):
    summary = train(config)
    info = read_adapter_info(config.output)
    assert summary.adapter_norm > 0
    assert summary.adapter_digest == adapter_digest(config.output)
    assert (info.rank, info.num_frames, info.height, info.width) == (2, 17, 64, 96)
    assert info.scale > 0
    assert (config.output / "training" / "curves.png").stat().st_size > 1000
    assert read_json(config.output / "training" / "summary.json")["steps"] == 4
    assert not config.output.with_name("adapter.checkpoint").exists()
    weights = config.output / "pytorch_lora_weights.safetensors"
    written = weights.stat().st_mtime_ns
    assert train(config) == summary  # finished: not made again
    assert weights.stat().st_mtime_ns == written
    assert train(replace(config, seed=1)).adapter_digest != summary.adapter_digest


def test_the_adapter_has_the_layers_that_were_asked_for(config):
    train(replace(config, steps=1, targets=("attn1.to_q", "ffn.net.2")))
    info = read_adapter_info(config.output)
    assert info.targets == ("attn1.to_q", "ffn.net.2")
    names = {key.rsplit(".lora_", 1)[0] for key in load_file(config.output / "pytorch_lora_weights.safetensors")}
    assert names == {"transformer.blocks.0.attn1.to_q", "transformer.blocks.0.ffn.net.2"}


def test_a_batch_that_cannot_be_divided_is_refused(config):
    with pytest.raises(ValueError, match=r"batch_size: expected a multiple of 2 .*, got 3"):
        train(replace(config, batch_size=3, gradient_accumulation=2))


def test_a_clip_that_cannot_be_encoded_keeps_its_reason(latents, random_base, tmp_path):
    root = latents.parent
    names = [*pd.read_parquet(root / "annotated" / f"{SHARD}.parquet")["name"], "nobody"]
    curated = tmp_path / "curated.parquet"
    pd.DataFrame({"name": names, "shard": SHARD, "kept": True}).to_parquet(curated)
    first, second = (encode_shard(root / "annotated", SHARD, curated, tmp_path, model=str(random_base)) for _ in "12")
    assert first.set_aside == (("nobody", "kept by curation but not in the annotated shard"),)
    assert (second.done, second.skipped, second.set_aside) == (0, 3, first.set_aside)


def test_the_loss_falls_on_a_clip_seen_again_and_again(config):
    log = replace(config, steps=30, batch_size=3, learning_rate=0.01, rank=16, alpha=16.0, checkpoint_every=50)
    train(log)
    lines = [json.loads(line) for line in (config.output / "training" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_resuming_equals_the_uninterrupted_run(config, tmp_path, monkeypatch):
    train(config)
    whole = load_file(config.output / "pytorch_lora_weights.safetensors")
    other = replace(config, output=tmp_path / "other")
    import fourdnex.training.loop as loop

    original = loop.flow_matching_loss
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # in step 4, after the checkpoint of step 2 and a step that was not kept
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "flow_matching_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        train(other)
    monkeypatch.setattr(loop, "flow_matching_loss", original)
    train(other)
    resumed = load_file(other.output / "pytorch_lora_weights.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_killed_while_it_finishes_is_finished_by_the_next(config, monkeypatch):
    """After the adapter is written and before its summary is: the checkpoint and the log are still there."""
    import fourdnex.training.pictures as pictures

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pictures, "sample_pictures", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    digest = adapter_digest(config.output)
    assert not (config.output / "training" / "summary.json").exists()
    assert train(config).adapter_digest == digest
    lines = (config.output / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]
    assert sorted(path.name for path in config.output.parent.iterdir()) == ["adapter"]


def test_the_log_of_an_earlier_run_is_not_taken_for_this_one(config):
    stale = config.output.with_name("adapter.log.jsonl")
    stale.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    train(config)
    lines = (config.output / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]


def test_a_step_is_drawn_from_seed_and_step_alone(config, latents):
    clips = LatentClips(latents)
    one, other = draw(config, clips, 5), draw(config, clips, 5)
    assert one[0] == other[0]
    assert torch.equal(one[2], other[2])
    assert not torch.equal(one[2], draw(config, clips, 6)[2])
    # every epoch of three clips shows each of them once
    seen = [index for step in range(3) for index in draw(config, clips, step)[0]]
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


def test_a_broken_clip_stops_training_by_name(config, latents, tmp_path):
    broken = tmp_path / "latents"
    broken.mkdir()
    for path in latents.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    with safe_open(broken / f"{SHARD}.safetensors", framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(broken / f"{SHARD}.safetensors")
    name = next(key for key in tensors if key.endswith("/rgb"))
    tensors[name][0, 0, 0, 0] = float("nan")
    save_file(tensors, broken / f"{SHARD}.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=name.split("/")[0]):
        train(replace(config, latents=broken))
    assert not config.output.exists()


def test_learning_rate_warms_up_and_falls(config):
    schedule = replace(config, steps=100, warmup_steps=10)
    assert learning_rate_factor(schedule, 0) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, 9) == pytest.approx(1.0)
    assert learning_rate_factor(schedule, 55) == pytest.approx(0.5)
    assert learning_rate_factor(replace(schedule, schedule="constant"), 90) == 1.0


@pytest.mark.parametrize(
    ("field", "value"), [("rank", 0), ("steps", 0), ("learning_rate", -1.0), ("schedule", "step"), ("ema", 1.0)]
)
def test_wrong_settings_are_named(config, field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        replace(config, **{field: value})


def test_missing_latents_say_what_to_do(config, tmp_path):
    with pytest.raises(FileNotFoundError):
        train(replace(config, latents=tmp_path / "nowhere"))


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_the_next_run_goes_on(config):
    arguments = {
        "latents": config.latents,
        "output": config.output,
        "model": config.model,
        "steps": 2000,
        "batch_size": 2,
        "rank": 2,
        "checkpoint_every": 1000,
        "num_samples": 0,
        "track": False,
    }
    code = (
        "from pathlib import Path; from fourdnex.training.trainer import *\n"
        f"train(LoraTraining(**{ {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}!r} | "
        f"{{'latents': Path({str(config.latents)!r}), 'output': Path({str(config.output)!r})}}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    )
    log = config.output.parent / "adapter.log.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert TrainingInterrupted.__name__ in errors.decode()
    (checkpoint,) = config.output.with_name("adapter.checkpoint").iterdir()
    assert read_json(checkpoint / "state.json")["step"] >= 10
    assert not config.output.exists()
