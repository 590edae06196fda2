"""A run that is killed at any point and resumed gives a bit-identical result."""

import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fourdnex.io.files import read_json
from fourdnex.model.adapter import read_adapter_info
from fourdnex.training.checkpoint import STATE, TENSORS, Checkpoints
from fourdnex.training.trainer import TrainingInterrupted, train

LOOP, CHECKPOINT = "fourdnex.training.loop", "fourdnex.training.checkpoint"
POINTS = {
    "never": ("none", []),
    "in the first step": (f"{LOOP}:draw_batch:1", []),
    "before the first checkpoint": (f"{LOOP}:draw_batch:4", []),
    "with half a checkpoint written": ("half:1", []),
    "with half of the second checkpoint written": ("half:2", ["step-0000004"]),
    "between a checkpoint's tensors and its numbers": (f"{CHECKPOINT}:sha256_file:2", ["step-0000004"]),
    "just after a checkpoint": (f"{LOOP}:draw_batch:5", ["step-0000004"]),
    "in the middle of a step": (f"{LOOP}:flow_matching_loss:7", ["step-0000004"]),
    "after a log line that no checkpoint has": (f"{LOOP}:draw_batch:12", ["step-0000004", "step-0000008"]),
    "before the last step": (f"{LOOP}:draw_batch:13", ["step-0000008", "step-0000012"]),
    "when all steps are done": ("fourdnex.training.trainer:save_adapter:1", ["step-0000012", "step-0000013"]),
    "when the adapter is written": ("fourdnex.training.plots:plot_curves:1", ["step-0000012", "step-0000013"]),
}


def files(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pytorch_lora_weights.safetensors") | load_file(
        folder / "learnable_domain_embeddings.safetensors"
    )


def assert_same_adapter(one: Path, other: Path) -> None:
    first, second = files(one), files(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (one / "training" / "log.jsonl").read_bytes() == (other / "training" / "log.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
def test_a_run_killed_at_any_point_and_resumed_equals_an_uninterrupted_run(config, tmp_path):
    long = replace(config, steps=13, checkpoint_every=4, output=tmp_path / "runs")
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(long).items()}
    command = [sys.executable, str(Path(__file__).with_name("killed_runs.py")), json.dumps(settings)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command + [point for point, _ in POINTS.values()], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["point"] for line in outcomes] == [point for point, _ in POINTS.values()]
    for number, ((name, (_, left)), outcome) in enumerate(zip(POINTS.items(), outcomes, strict=True)):
        assert outcome["killed"] == (0 if name == "never" else -9), name
        assert (outcome["left"], outcome["again"]) == (left, 0), (name, done.stderr)
        assert_same_adapter(tmp_path / "runs" / "0" / "adapter", tmp_path / "runs" / str(number) / "adapter")


def interrupted(config, after: int):
    """Train until a simulated SIGTERM after `after` steps; returns the run's checkpoints, newest first."""
    import fourdnex.training.trainer as trainer

    class Signals(trainer.StopSignals):
        def __enter__(self):
            super().__enter__()
            requests = iter([False] * (after - 1) + [True])
            return lambda: next(requests)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "StopSignals", Signals)
        with pytest.raises(TrainingInterrupted, match=rf"interrupted at step {after}; its checkpoint is in "):
            train(config)
    return sorted(config.output.with_name("adapter.checkpoint").iterdir(), reverse=True)


def test_log_is_the_same_after_an_interruption_between_log_lines(config, tmp_path):
    whole = replace(config, steps=12, checkpoint_every=50, output=tmp_path / "whole" / "adapter")
    train(whole)
    resumed = replace(whole, output=tmp_path / "resumed" / "adapter")
    interrupted(resumed, 7)
    train(resumed)
    assert_same_adapter(whole.output, resumed.output)


def test_a_run_resumes_with_another_mlflow_store(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "one"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracked = replace(config, track=True)
    (checkpoint,) = interrupted(tracked, 1)
    before = read_json(checkpoint / STATE)["mlflow_run_id"]
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "other"))
    after = train(tracked).mlflow_run_id
    assert after is not None and before != after
    assert f"run {before} no longer exists, starting a new one" in caplog.text
    assert read_adapter_info(config.output).identity["mlflow_run"] == after


def test_a_restored_checkpoint_is_freed_before_the_first_step(config, monkeypatch):
    import fourdnex.training.trainer as trainer

    interrupted(config, 2)
    tensors, restore, begin_log = [], trainer.restore, trainer.TrainingLoop.begin_log

    def restored(found, *places):
        tensors.extend(weakref.ref(value) for key, value in found.items() if key.startswith("parameter/"))
        restore(found, *places)

    def checked(loop):
        assert tensors and not any(reference() is not None for reference in tensors)
        begin_log(loop)

    monkeypatch.setattr(trainer, "restore", restored)
    monkeypatch.setattr(trainer.TrainingLoop, "begin_log", checked)
    assert train(config).steps == 4


@pytest.mark.parametrize("has_version", [True, False])
def test_an_adapter_records_the_data_version_of_its_latents(config, tmp_path, monkeypatch, has_version):
    """Latents of earlier versions have no data version: then it is that of `data.dvc` at the first step."""
    monkeypatch.setenv("FOURDNEX_ROOT", str(tmp_path))
    config = replace(config, latents=shutil.copytree(config.latents, tmp_path / "latents"))
    (tmp_path / "data.dvc").write_text("outs: [{md5: first.dir, path: data}]")
    (version,) = config.latents.glob("*.data.json")
    assert read_json(version) == {"data_md5": None}, "worlds that no data.dvc names"
    if not has_version:
        version.unlink()
    interrupted(config, 1)
    (tmp_path / "data.dvc").write_text("outs: [{md5: next.dir, path: data}]")
    train(config)
    assert read_adapter_info(config.output).identity["data_md5"] == (None if has_version else "first.dir")


@pytest.mark.parametrize(
    ("file", "size", "message"),
    [
        (TENSORS, 100, r"state\.safetensors: expected sha256 [0-9a-f]{12}, got [0-9a-f]{12} in 100 bytes"),
        (TENSORS, 0, r"state\.safetensors: expected sha256 .* in 0 bytes"),
        (STATE, 20, r"state\.json: expected JSON, got "),
        (TENSORS, None, r"No such file .*state\.safetensors"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path, caplog, file, size, message):
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    for step in (4, 5):
        checkpoints.save({"parameter/a": torch.full((99,), float(step))}, {"step": step})
    damaged = tmp_path / "step-0000005-aaaaaaaa" / file
    if size is None:
        damaged.unlink()
    else:
        os.truncate(damaged, size)
    found = checkpoints.load()
    assert found is not None
    tensors, state = found
    assert state["step"] == 4 and tensors["parameter/a"].eq(4).all()
    (record,) = caplog.records
    assert re.search(f"step-0000005-aaaaaaaa cannot be used, .*{message}", record.getMessage()), record.getMessage()


def test_a_run_resumes_before_a_truncated_checkpoint(config, tmp_path, caplog, capsys):
    train(config)
    resumed = replace(config, output=tmp_path / "resumed" / "adapter")
    newest, before = interrupted(resumed, 3)
    assert (newest.name[:12], before.name[:12]) == ("step-0000003", "step-0000002")
    os.truncate(newest / TENSORS, 1000)
    train(resumed)
    assert "resuming from step 2" in capsys.readouterr().out
    assert_same_adapter(config.output, resumed.output)

    third = replace(config, output=tmp_path / "third" / "adapter")
    (only,) = interrupted(third, 1)
    os.truncate(only / TENSORS, 1000)
    caplog.clear()
    train(third)
    assert len(caplog.records) == 1
    assert "resuming" not in capsys.readouterr().out
    assert_same_adapter(config.output, third.output)


def test_eight_bit_moments_are_restored(config, tmp_path):
    pytest.importorskip("bitsandbytes")
    whole = replace(config, optimizer="adamw8bit", rank=64)
    train(whole)
    resumed = replace(whole, output=tmp_path / "resumed" / "adapter")
    interrupted(resumed, 3)
    train(resumed)
    assert_same_adapter(whole.output, resumed.output)


def test_a_run_resumes_after_moving_files_and_changing_accumulation(config, tmp_path, monkeypatch, capsys):
    train(config)
    resumed = replace(config, output=tmp_path / "resumed" / "adapter")
    interrupted(resumed, 3)
    monkeypatch.chdir(config.latents.parent)
    elsewhere = replace(resumed, latents=Path(config.latents.name), model=f"{config.model}/.")
    train(replace(elsewhere, gradient_accumulation=2, gradient_checkpointing=True))
    assert "resuming from step 3" in capsys.readouterr().out
    first, second = files(config.output), files(resumed.output)
    assert all(torch.allclose(value, second[key], rtol=0, atol=2e-6) for key, value in first.items())
    logs = [json.loads((folder / "training" / "log.jsonl").read_text()) for folder in (config.output, resumed.output)]
    assert logs[0] == pytest.approx(logs[1], abs=1e-5)


def test_a_run_with_other_settings_leaves_existing_checkpoints_alone(config, tmp_path, capsys):
    long = replace(config, steps=12, checkpoint_every=5)
    whole = replace(long, output=tmp_path / "whole" / "adapter")
    train(whole)
    kept = interrupted(long, 11)
    train(replace(config, seed=1))
    folder = config.output.with_name("adapter.checkpoint")
    assert f"starting a new run: {folder} has 2 checkpoints of other settings or clips" in capsys.readouterr().out
    assert sorted(folder.iterdir(), reverse=True) == kept
    train(long)
    assert "resuming from step 11" in capsys.readouterr().out
    assert_same_adapter(whole.output, long.output)
    assert not folder.exists()


def test_two_checkpoints_per_run_are_kept(tmp_path):
    tensors = {"parameter/a": torch.zeros(3)}
    one, other = (Checkpoints(tmp_path, letter * 64) for letter in "ab")
    for step in (1, 2, 3):
        one.save(tensors, {"step": step})
    assert other.load() is None
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-0000002-aaaaaaaa", "step-0000003-aaaaaaaa"]
    other.save(tensors, {"step": 1})
    left = ["step-0000002-aaaaaaaa", "step-0000003-aaaaaaaa"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-0000001-bbbbbbbb", *left]
    found = other.load()
    assert found is not None and found[1]["step"] == 1
    assert [path.name for path in other.of_others()] == left
    (half := tmp_path / ".step-0000002-bbbbbbbb.0a1b2c-1-d4e5f6.new.tmp").mkdir()
    other.remove()
    assert not half.exists()
    assert [path.name for path in sorted(tmp_path.iterdir())] == left
    one.remove()
    assert not tmp_path.exists()
