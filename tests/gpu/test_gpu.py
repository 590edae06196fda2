"""Tests on a CUDA device (`python -m pytest -m gpu`): results match the CPU, and memory matches the plan."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fourdnex.evaluation.benchmark import BASELINES, Evaluation, evaluate
from fourdnex.io.files import read_json
from fourdnex.latents.encoding import encode_shard
from fourdnex.latents.shards import estimate_statistics
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.adapter_files import read_adapter_state
from fourdnex.model.base_components import component_configs
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import get_preset
from fourdnex.model.sampling import SamplingSettings
from fourdnex.planning.estimate import denoising_bytes, training_bytes, transformer_weights, vae_bytes
from fourdnex.planning.passes import ClipShape, denoising_pass, training_pass, vae_pass
from fourdnex.training.trainer import LoraTraining, TrainingInterrupted, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHARD = "worlds-0000"
EXACT = MemorySettings(precision="fp32")
CLIP = ClipShape(num_frames=17, height=64, width=96)
LARGER = ClipShape(num_frames=17, height=256, width=384)
"""Large enough that activations dominate weights and kernel workspaces."""


@pytest.fixture(scope="module")
def tiny():
    return get_preset("tiny")


def generate(pipeline):
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    sampling = SamplingSettings(num_inference_steps=2, guidance_scale=1.0)
    return pipeline.generate(image, ["A red box slides left."], num_frames=17, seeds=[3], sampling=sampling)


def test_bfloat16_pass_matches_the_cpu_in_float32(tiny):
    torch.manual_seed(0)
    on_cpu = denoising_pass(component_configs(tiny), CLIP, rank=0, precision="no")
    with torch.no_grad():
        expected = on_cpu.forward()
        on_gpu = denoising_pass(component_configs(tiny), CLIP, rank=0, precision="bf16").to("cuda")
        on_gpu.model.load_state_dict(on_cpu.model.state_dict())
        for own, other in zip(on_gpu.inputs, on_cpu.inputs, strict=True):
            own.copy_(other)
        found = on_gpu.forward()
    difference = (found.float().cpu() - expected).square().mean().sqrt()
    assert difference < 0.02 * expected.std()


def test_training_gradients_match_the_cpu(tiny):
    torch.manual_seed(0)
    gradients = {}
    steps = {
        device: training_pass(component_configs(tiny), CLIP, rank=4, checkpointing=True, precision="no").to(device)
        for device in ("cpu", "cuda")
    }
    steps["cuda"].model.load_state_dict(steps["cpu"].model.state_dict())
    for own, other in zip(steps["cuda"].inputs, steps["cpu"].inputs, strict=True):
        own.copy_(other)
    for device, step in steps.items():
        step.forward().backward()
        parts = [value.grad.flatten().cpu() for value in step.model.parameters() if value.requires_grad]
        gradients[device] = torch.cat(parts)
    difference = (gradients["cuda"] - gradients["cpu"]).norm()
    assert difference < 1e-2 * gradients["cpu"].norm()  # TF32 and summation order


def test_generation_matches_the_cpu():
    """float32 on both, up to two sampling steps with another summation order."""
    cpu = generate(load_pipeline("tiny", device="cpu", memory=EXACT)[0])
    gpu = generate(load_pipeline("tiny", device="cuda", memory=EXACT)[0])
    assert np.abs(gpu.xyz - cpu.xyz).mean() < 0.01


@pytest.mark.parametrize("offload", ["encoders", "all"])
def test_offloading_does_not_change_results_and_frees_memory(offload):
    plain = load_pipeline("tiny", device="cuda", memory=EXACT)[0]
    expected, full = generate(plain), torch.cuda.memory_allocated()
    del plain
    torch.cuda.empty_cache()
    memory = MemorySettings(offload=offload)
    pipeline = load_pipeline("tiny", device="cuda", memory=replace(memory, precision="fp32"))[0]
    assert torch.cuda.memory_allocated() < full
    assert np.abs(generate(pipeline).xyz - expected.xyz).max() < 1e-3


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """Random LoRA matrices and domain embeddings on the tiny base."""
    torch.manual_seed(0)
    transformer = load_pipeline("tiny", device="cpu", memory=EXACT)[0].transformer
    add_lora(transformer, rank=2, alpha=2.0)
    state = {key: torch.randn_like(value) * 0.05 for key, value in adapter_state(transformer).items()}
    info = AdapterInfo(rank=2, alpha=2.0, center=(0.0, 0.0, 4.0), scale=2.0, num_frames=17, height=64, width=96)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    save_adapter(folder, state, info)
    return folder


@pytest.fixture(scope="module")
def annotated(tmp_path_factory, annotate_worlds) -> Path:
    """Folder with two worlds: `annotated` and `curated.parquet`."""
    return annotate_worlds(tmp_path_factory.mktemp("worlds"), 2)


@pytest.fixture
def training(annotated, tmp_path) -> LoraTraining:
    """Three training steps on the two worlds."""
    latents = annotated / "latents"
    assert encode_shard(annotated / "annotated", SHARD, annotated / "curated.parquet", latents).failed == ()
    estimate_statistics(latents)
    return LoraTraining(
        latents=latents,
        output=tmp_path / "adapter",
        steps=3,
        batch_size=2,
        rank=4,
        alpha=4.0,
        warmup_steps=1,
        num_samples=0,
        mixed_precision="bf16",
        track=False,
    )


def assert_trained_alike(one: Path, other: Path) -> None:
    """Up to bfloat16 and summation order: Adam takes a full step in the sign of gradients near zero."""
    first, second = (read_adapter_state(folder, "width") for folder in (one, other))
    assert first.keys() == second.keys()
    learned = [key for key in first if ".lora_A." not in key]  # the others are initialized randomly and hardly change
    first_flat, second_flat = (torch.cat([state[key].flatten() for key in learned]) for state in (first, second))
    assert first_flat.norm() > 0
    assert (first_flat - second_flat).norm() < 0.3 * first_flat.norm()


def test_fp8_storage_runs_with_an_adapter(adapter):
    memory = MemorySettings(fp8_storage=True, vae_tiling=True)
    found, plain = (
        generate(load_pipeline("tiny", folder, device="cuda", memory=memory)[0]).xyz for folder in (adapter, None)
    )
    assert np.isfinite(found).all()
    assert np.abs(found - plain).max() > 1e-2


def test_resumed_run_equals_the_uninterrupted_one(training, tmp_path, monkeypatch, capsys):
    import fourdnex.training.trainer as trainer

    class EndAfterTwo(trainer.StopSignals):
        def __enter__(self):
            super().__enter__()
            asked = iter([False, True])
            return lambda: next(asked)

    whole = train(training)
    assert np.isfinite(whole.loss)
    parted = replace(training, output=tmp_path / "parted" / "adapter")
    with monkeypatch.context() as patched, pytest.raises(TrainingInterrupted):
        patched.setattr(trainer, "StopSignals", EndAfterTwo)
        train(parted)
    resumed = train(parted)
    assert "resuming from step 2" in capsys.readouterr().out
    assert resumed.loss == pytest.approx(whole.loss, rel=0.05)
    assert_trained_alike(training.output, parted.output)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_sharded_training_equals_training_on_one_device(training, tmp_path):
    whole = train(replace(training, gradient_accumulation=2))
    spread = replace(training, output=tmp_path / "spread" / "adapter")
    names = ("latents", "output", "steps", "batch_size", "rank", "alpha", "warmup_steps", "num_samples")
    options = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(spread, name)))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "fourdnex", "train", *options, "--mixed-precision", "bf16", "--no-track"]
    done = subprocess.run([*command, "--shard-model"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_json(spread.output / "training" / "summary.json")["loss"] == pytest.approx(whole.loss, rel=0.05)
    assert_trained_alike(training.output, spread.output)


def test_bfloat16_evaluation_covers_every_method(adapter, annotated, tmp_path):
    folders = {"adapter": adapter, "annotated": annotated / "annotated", "out": tmp_path / "report"}
    report = evaluate(Evaluation(**folders, curated=annotated / "curated.parquet", num_worlds=2))
    for numbers in (report["adapter"], report["vae_floor"], *(report["baselines"][name] for name in BASELINES)):
        assert np.isfinite([numbers["abs_rel"], numbers["chamfer"], numbers["psnr"]]).all()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_memory_matches_the_plan(tiny, checkpointing, precision):
    arguments = {"rank": 64, "checkpointing": checkpointing, "precision": precision}
    planned = training_bytes(tiny, LARGER, **arguments).peak
    measured = training_pass(component_configs(tiny), LARGER, **arguments).to("cuda").measure_on_gpu()
    assert planned == pytest.approx(measured, rel=0.15)


def test_denoising_memory_matches_the_plan(tiny):
    planned = denoising_bytes(tiny, LARGER, rank=64, precision="bf16").peak
    step = denoising_pass(component_configs(tiny), LARGER, rank=64, precision="bf16").to("cuda")
    assert planned == pytest.approx(step.measure_on_gpu(), rel=0.15)


def test_decoding_memory_matches_the_plan(tiny):
    planned = vae_bytes(tiny, LARGER, "decode", precision="no").peak
    step = vae_pass(component_configs(tiny), LARGER, "decode", precision="no").to("cuda")
    assert planned == pytest.approx(step.measure_on_gpu(), rel=0.15)


def test_weight_memory_matches_the_plan(tiny):
    before = torch.cuda.memory_allocated()
    step = denoising_pass(component_configs(tiny), CLIP, rank=0, precision="bf16").to("cuda")
    inputs = sum(value.nbytes for value in step.inputs)
    measured = torch.cuda.memory_allocated() - before - inputs
    assert measured == pytest.approx(transformer_weights(tiny, precision="bf16").total, rel=0.05)


def test_compiled_blocks_give_the_same_result(tiny):
    step = denoising_pass(component_configs(tiny), CLIP, rank=0, precision="bf16").to("cuda")
    with torch.no_grad():
        expected = step.forward().float()
        step.model.compile_repeated_blocks(fullgraph=True)
        found = step.forward().float()
    assert (found - expected).abs().max() < 0.05 * expected.std()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_context_parallelism_gives_the_same_result(tmp_path):
    """For sequences too long for one GPU: diffusers' `enable_parallelism`."""
    torch.multiprocessing.spawn(_in_parallel, (2, tmp_path), nprocs=2)
    differences = [float((tmp_path / f"difference-{rank}").read_text()) for rank in range(2)]
    assert max(differences) < 0.05


def _in_parallel(rank: int, count: int, folder: Path) -> None:
    """Write the max difference between this process's result and that of one GPU, in standard deviations."""
    from diffusers import ContextParallelConfig

    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", init_method=f"file://{folder / 'store'}", rank=rank, world_size=count)
    torch.manual_seed(0)
    step = denoising_pass(component_configs(get_preset("tiny")), CLIP, rank=0, precision="bf16").to("cuda")
    with torch.no_grad():
        expected = step.forward().float()
        step.model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=count))
        found = step.forward().float()
    difference = (found - expected).abs().max() / expected.std()
    (folder / f"difference-{rank}").write_text(str(difference.item()))
    torch.distributed.destroy_process_group()
