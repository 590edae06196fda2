"""Training in several processes under torchrun, as in the README: Gloo on the CPU."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fourdnex.io.files import read_json
from fourdnex.training.trainer import train

ON_CPU = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def arguments(config) -> list[str]:
    """`-m fourdnex train` with the settings of `config`."""
    names = ("latents", "output", "model", "steps", "batch_size", "rank", "alpha", "warmup_steps", "checkpoint_every")
    options = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]
    # What "auto" is in these tests, which other processes do not know of.
    return ["-m", "fourdnex", "train", *options, "--mixed-precision", "no", "--num-samples", "0", "--no-track"]


def torchrun(config, *more: str) -> str:
    """Run `torchrun --nproc-per-node 2 -m fourdnex train` with the settings of `config`; returns its output."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, *arguments(config), *more], env=ON_CPU, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_equal_one_that_accumulates_twice(config, tmp_path, sharded):
    one = replace(config, gradient_accumulation=2, output=tmp_path / "one" / "adapter")
    expected = train(one)
    two = replace(config, output=tmp_path / "two" / "adapter")
    printed = torchrun(two, *(["--shard-model"] if sharded else []))
    summary = read_json(two.output / "training" / "summary.json")
    assert printed.count("adapter_digest") == 1  # one process speaks
    assert summary["adapter_norm"] == pytest.approx(expected.adapter_norm, rel=1e-5)
    assert summary["loss"] == pytest.approx(expected.loss, abs=2e-6)
    for file in ("pytorch_lora_weights.safetensors", "learnable_domain_embeddings.safetensors"):
        first, second = load_file(one.output / file), load_file(two.output / file)
        assert first.keys() == second.keys()
        # A handful of roundings apart, of values up to 0.07; the gradients are summed in another order.
        assert all(torch.allclose(value, second[key], rtol=0, atol=2e-6) for key, value in first.items())
        assert any(value.abs().max() > 1e-3 for value in first.values())
    assert not two.output.with_name("adapter.checkpoint").exists()


@pytest.mark.slow
def test_processes_with_different_files_all_fail_before_the_first_step(config, tmp_path, monkeypatch):
    """Each process has its own output, as without shared storage: one with a checkpoint, one without."""
    import fourdnex.training.trainer as trainer

    def killed(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer, "save_adapter", killed)
        train(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments(replace(config, output=output))],
            env=ON_CPU | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate((config.output, tmp_path / "other" / "adapter"))
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 2, errors[-3000:]
            assert "output: expected the same files in all processes, got step 4, step 0" in errors
    finally:
        for process in processes:
            process.kill()


def test_a_single_process_cannot_shard(config):
    with pytest.raises(ValueError, match="shard_model: expected several processes"):
        train(replace(config, shard_model=True))


def test_eight_bit_moments_cannot_be_sharded(config):
    with pytest.raises(ValueError, match="optimizer: expected adamw with shard_model, got adamw8bit"):
        replace(config, shard_model=True, optimizer="adamw8bit")
