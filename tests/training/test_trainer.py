"""Encoding and LoRA training on a real base with random weights and on real worlds."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fourdnex.io.files import read_json
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.encoding import encode_shard
from fourdnex.latents.shards import estimate_statistics
from fourdnex.model.adapter import adapter_digest, read_adapter_info
from fourdnex.training.batches import draw_batch
from fourdnex.training.lr_schedule import warmup_then_decay
from fourdnex.training.trainer import TrainingInterrupted, train

SHARD = "worlds-0000"


def test_normalized_latents_have_unit_statistics(latents):
    xyz = torch.stack([item["latents"][1] for item in LatentClips(latents)]).flatten(2).transpose(0, 1).flatten(1)
    assert torch.allclose(xyz.mean(dim=1), torch.zeros(16), atol=1e-3)
    assert torch.allclose(xyz.std(dim=1), torch.ones(16), atol=1e-2)


def test_training_writes_a_trained_adapter(config):
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


def test_the_adapter_has_the_requested_layers(config):
    train(replace(config, steps=1, targets=("attn1.to_q", "ffn.net.2")))
    info = read_adapter_info(config.output)
    assert info.targets == ("attn1.to_q", "ffn.net.2")
    names = {key.rsplit(".lora_", 1)[0] for key in load_file(config.output / "pytorch_lora_weights.safetensors")}
    assert names == {"transformer.blocks.0.attn1.to_q", "transformer.blocks.0.ffn.net.2"}


@pytest.mark.parametrize("name", ["adapters", "adapters/thesis.txt"])
def test_an_output_with_other_files_is_rejected_before_anything_is_loaded(config, tmp_path, name):
    """For example `--output workspace/adapters` without the adapter's name."""
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=f"{name}: expected nothing, an empty folder or an adapter to replace"):
        train(replace(config, output=tmp_path / name, latents=tmp_path / "nowhere"))
    assert (tmp_path / "adapters" / "thesis.txt").read_text() == "years of work"


def test_an_indivisible_batch_is_rejected(config):
    with pytest.raises(ValueError, match=r"batch_size: expected a multiple of 2 .*, got 3"):
        train(replace(config, batch_size=3, gradient_accumulation=2))


def test_failed_clips_keep_their_reason_in_cached_shards(latents, random_base, tmp_path):
    root = latents.parent
    names = [*pd.read_parquet(root / "annotated" / f"{SHARD}.parquet")["name"], "nobody"]
    curated = tmp_path / "curated.parquet"
    pd.DataFrame({"name": names, "shard": SHARD, "accepted": True}).to_parquet(curated)
    first, second = (encode_shard(root / "annotated", SHARD, curated, tmp_path, model=str(random_base)) for _ in "12")
    assert first.failed == (("nobody", "accepted by curation, but not in the annotated shard"),)
    assert (second.done, second.cached, second.failed) == (0, 3, first.failed)


def test_the_loss_decreases_on_repeated_clips(config):
    log = replace(config, steps=30, batch_size=3, learning_rate=0.01, rank=16, alpha=16.0, checkpoint_every=50)
    train(log)
    lines = [json.loads(line) for line in (config.output / "training" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_run_killed_while_finishing_is_finished_by_the_next(config, monkeypatch):
    """Killed between the adapter and its summary, when checkpoint and log still exist."""
    import fourdnex.training.plots as images

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(images, "sample_images", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    digest = adapter_digest(config.output)
    assert not (config.output / "training" / "summary.json").exists()
    assert train(config).adapter_digest == digest
    lines = (config.output / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]
    assert sorted(path.name for path in config.output.parent.iterdir()) == ["adapter"]


def test_samples_are_generated_after_freeing_the_model_and_may_fail(config, monkeypatch, caplog):
    import fourdnex.training.plots as images
    import fourdnex.training.trainer as trainer

    kept, build_loop = [], trainer.build_loop

    def built(*args):
        loop = build_loop(*args)
        kept.extend(map(weakref.ref, (loop.model, loop.optimizer.optimizer, *loop.averages.values())))
        return loop

    def no_room(*_args, **_kwargs):
        assert kept and not any(reference() is not None for reference in kept)
        raise torch.OutOfMemoryError("tried to allocate 28 GiB")

    monkeypatch.setattr(trainer, "build_loop", built)
    monkeypatch.setattr(images, "sample_images", no_room)
    summary = train(config)
    (record,) = caplog.records
    note = f"the adapter in {config.output} is complete without them"
    assert record.getMessage().startswith(f"samples: not generated, {note}: ")
    assert read_json(config.output / "training" / "summary.json")["adapter_digest"] == summary.adapter_digest
    assert train(config) == summary
    assert not config.output.with_name("adapter.checkpoint").exists()


def test_the_log_of_an_earlier_run_is_replaced(config):
    stale = config.output.with_name("adapter.log.jsonl")
    stale.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    train(config)
    lines = (config.output / "training" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]


def test_batches_depend_only_on_seed_and_step(config, latents):
    clips = LatentClips(latents)
    one, other = draw_batch(config, clips, 5), draw_batch(config, clips, 5)
    assert one[0] == other[0]
    assert torch.equal(one[2], other[2])
    assert not torch.equal(one[2], draw_batch(config, clips, 6)[2])
    # every epoch of three clips shows each of them once
    seen = [index for step in range(3) for index in draw_batch(config, clips, step)[0]]
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


@pytest.mark.parametrize("what", ["rgb", "xyz", "condition", "text", "image"])
def test_latents_that_are_not_finite_are_reported_with_clip_and_shard(config, latents, tmp_path, what):
    broken = copy_with_value(latents, tmp_path / "latents", what, float("nan"))
    with pytest.raises(ValueError, match=rf"{what} of clip \S+ in shard {SHARD}: expected finite numbers"):
        train(replace(config, latents=broken))
    assert not config.output.exists()
    if what == "xyz":
        with pytest.raises(ValueError, match=rf"xyz of clip \S+ in shard {SHARD}: expected finite numbers"):
            estimate_statistics(broken)


def copy_with_value(latents: Path, folder: Path, what: str, value: float) -> Path:
    """A copy of the latents with one value of one clip replaced."""
    folder.mkdir()
    for path in latents.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with safe_open(folder / f"{SHARD}.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = load_file(folder / f"{SHARD}.safetensors")
    tensors[next(key for key in tensors if key.endswith(f"/{what}"))].view(-1)[0] = value
    save_file(tensors, folder / f"{SHARD}.safetensors", metadata=metadata)
    return folder


def test_a_truncated_latent_shard_is_reported(config, latents, tmp_path):
    broken = copy_with_value(latents, tmp_path / "latents", "rgb", 0.0)
    clips = LatentClips(broken)
    os.truncate(broken / f"{SHARD}.safetensors", (broken / f"{SHARD}.safetensors").stat().st_size // 2)
    with pytest.raises(ValueError, match=rf"{SHARD}\.safetensors: expected a valid safetensors file, got "):
        clips[0]
    with pytest.raises(ValueError, match=rf"{SHARD}\.safetensors: expected a valid safetensors file, got "):
        estimate_statistics(broken)
    with pytest.raises(ValueError, match=rf"estimated from other latents .*{SHARD}.* run `fourdnex encode` again"):
        train(replace(config, latents=broken))


def test_a_loss_that_is_not_finite_is_reported_with_the_clips_of_its_step(config, latents, tmp_path):
    """Finite latents so large that their squared error overflows."""
    broken = copy_with_value(latents, tmp_path / "latents", "rgb", 1e30)
    names = [name for _, name in LatentClips(latents).index]
    one = replace(config, latents=broken, batch_size=2, gradient_accumulation=2, steps=3)
    with pytest.raises(ValueError, match=r"loss: expected a finite number at step \d, got (inf|nan) on ") as caught:
        train(one)
    tensors = load_file(broken / f"{SHARD}.safetensors")
    (culprit,) = (name for name in names if tensors[f"{name}/rgb"].max() > 1e20)
    assert str([culprit]) in str(caught.value)  # of the two halves of the batch, the one that holds it
    assert not config.output.exists()
    assert list(config.output.with_name("adapter.checkpoint").iterdir()) == []


def test_a_diverging_run_stops(config):
    with pytest.raises(ValueError, match=r"(loss|gradient): expected a finite number at step \d+, got (inf|nan) on "):
        train(replace(config, steps=20, learning_rate=1e25, checkpoint_every=50))


def test_training_loads_neither_vae_nor_encoders(config, monkeypatch):
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    loaded = []
    for kind in (AutoencoderKLWan, WanTransformer3DModel, PreTrainedModel, PreTrainedTokenizerBase):
        original = kind.from_pretrained.__func__

        def noted(cls, *args, _original=original, **kwargs):
            loaded.append(cls.__name__)
            return _original(cls, *args, **kwargs)

        monkeypatch.setattr(kind, "from_pretrained", classmethod(noted))
    train(config)
    assert loaded == ["WanTransformer3DModel"]


def test_logit_normal_noise_levels_have_the_expected_moments(config, latents):
    clips = LatentClips(latents)
    settings = replace(config, batch_size=3, sigma_shift=1.0, timesteps="logit-normal", sigma_one_prob=0.0)
    logits = torch.cat([draw_batch(settings, clips, step)[1] for step in range(700)]).logit()
    assert logits.mean().item() == pytest.approx(0, abs=0.08)  # 2,100 samples: deviation of the mean 0.022
    assert logits.std().item() == pytest.approx(1, abs=0.06)
    shifted = draw_batch(replace(settings, sigma_shift=3.0), clips, 0)[1]
    assert torch.allclose(shifted, 3 * (plain := draw_batch(settings, clips, 0)[1]) / (1 + 2 * plain))


def test_pure_noise_replaces_a_share_of_the_noise_levels(config, latents):
    clips = LatentClips(latents)
    settings = replace(config, batch_size=3, sigma_one_prob=0.4)
    found = torch.cat([draw_batch(settings, clips, step)[1] for step in range(400)])
    plain = torch.cat([draw_batch(replace(settings, sigma_one_prob=0.0), clips, step)[1] for step in range(400)])
    pure = found == 1
    assert pure.float().mean().item() == pytest.approx(0.4, abs=0.06)  # 1,200 samples: deviation of the mean 0.014
    assert torch.equal(found[~pure], plain[~pure])
    assert not (plain == 1).any()
    with pytest.raises(ValueError, match=r"sigma_one_prob: expected a number in \[0, 1\], got 1.5"):
        replace(config, sigma_one_prob=1.5)


def test_eight_bit_moments_need_bitsandbytes(config):
    settings = replace(
        config, optimizer="adamw8bit", rank=64, batch_size=3, steps=3
    )  # it keeps small tensors as they are
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(
            ValueError, match=r"optimizer: adamw8bit needs bitsandbytes.* pip install 'fourdnex\[8bit\]'"
        ):
            train(settings)
        return
    train(settings)
    one, other = settings.output, config.output.with_name("plain")
    train(replace(settings, optimizer="adamw", output=other))
    first, second = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (one, other))
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert all(torch.allclose(first[key], second[key], atol=2e-3) for key in first)


def test_bfloat16_trains_a_float32_adapter(config):
    summary = train(replace(config, mixed_precision="bf16", gradient_checkpointing=True))
    assert summary.adapter_norm > 0
    weights = load_file(config.output / "pytorch_lora_weights.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_an_interrupted_run_keeps_its_precision_on_another_processor(config, monkeypatch, capsys):
    """A run with precision "auto" resumes, and is recognized as finished, in its first precision."""
    import fourdnex.training.trainer as trainer
    from fourdnex.model import precision

    class StopAfterTwo(trainer.StopSignals):
        def __enter__(self):
            super().__enter__()
            requests = iter([False, True])
            return lambda: next(requests)

    with monkeypatch.context() as patched, pytest.raises(trainer.TrainingInterrupted):
        patched.setattr(trainer, "StopSignals", StopAfterTwo)
        train(config)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    summary = train(config)
    assert "resuming from step 2" in capsys.readouterr().out
    assert read_adapter_info(config.output).config["mixed_precision"] == "no"
    assert train(config) == summary
    fresh = replace(config, output=config.output.with_name("fresh"))
    train(fresh)
    assert read_adapter_info(fresh.output).config["mixed_precision"] == "bf16"


def test_gradient_checkpointing_gives_the_same_adapter(config):
    train(config)
    again = replace(config, gradient_checkpointing=True, output=config.output.with_name("again"))
    train(again)
    one, other = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (config.output, again.output))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_learning_rate_warms_up_and_decays():
    settings = {"total_steps": 100, "warmup_steps": 10}
    factors = [warmup_then_decay(step, **settings, schedule="cosine") for step in (0, 9, 55, 99)]
    assert factors == pytest.approx([0.1, 1.0, 0.5, 0.02])
    assert warmup_then_decay(90, **settings, schedule="constant") == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("steps", 0),
        ("learning_rate", -1.0),
        ("schedule", "step"),
        ("ema", 1.0),
        ("timesteps", "normal"),
        ("optimizer", "sgd"),
        ("sigma_shift", 0.0),
        ("alpha", 0.0),
        ("max_grad_norm", 0.0),
        ("max_grad_norm", float("nan")),
        ("xyz_weight", -1.0),
    ],
)
def test_invalid_settings_are_reported_by_field(config, field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        replace(config, **{field: value})


def test_the_error_for_missing_latents_says_what_to_do(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shards in .*nowhere; run `fourdnex encode` first"):
        train(replace(config, latents=tmp_path / "nowhere"))
    for path in config.latents.glob(f"{SHARD}.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"no statistics\.json in .*; run `fourdnex encode` again"):
        train(replace(config, latents=tmp_path))


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint(config):
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


def test_held_out_clips_are_refused_and_training_clips_are_recorded(config, tmp_path):
    index = [name for _, name in LatentClips(config.latents).index]
    held_out = tmp_path / "held_out.parquet"
    pd.DataFrame({"name": ["other"], "shard": ["s"]}).to_parquet(held_out)
    train(replace(config, held_out_clips=held_out))
    recorded = pd.read_parquet(config.output / "training" / "clips.parquet")
    assert recorded["name"].tolist() == index and recorded["sha256"].str.len().eq(64).all()
    recorded.head(1).assign(shard="s", name="renamed").to_parquet(held_out)
    with pytest.raises(ValueError, match=r"got 1 \(renamed: the same video is a training clip\)"):
        train(replace(config, held_out_clips=held_out))
