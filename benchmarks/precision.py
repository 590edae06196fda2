"""bfloat16 against float32 on this CPU: `python -m benchmarks.precision`

float32 is what `--precision fp32` and `--mixed-precision no` run, and what a processor without AMX or AVX512-BF16 runs
by default. Both alternate in one process on the same numbers, and the medians are compared. Errors are those of
bfloat16's results against float32's; for pixels in [-1, 1] as PSNR.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from benchmarks.reporting import print_table
from benchmarks.training_step import latents_of, worlds
from fourdnex.latents.codec import LatentCodec
from fourdnex.latents.shards import LatentClips
from fourdnex.model.adapter import adapter_state, save_adapter
from fourdnex.model.adapter_files import AdapterInfo
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, load_encoders, load_pipeline
from fourdnex.model.precision import Resolved, cpu_has_bfloat16
from fourdnex.model.presets import Preset
from fourdnex.model.text_padding import TEXT_TOKENS
from fourdnex.pretraining.vae import pair_pixels, world_pair
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.trainer import build_loop

Work = Callable[[], torch.Tensor]
BOTH: tuple[Resolved, Resolved] = ("fp32", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="timed runs of each (default 9)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips a step and images a pass (default 8)")
    parser.add_argument(
        "--processor-time", action="store_true", help="seconds of the processor, for a machine that others use too"
    )
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        loops = _loops(Path(folder), options.batch_size)
        rows = [_row("LoRA step", _steps(loops), options.repeats, clock, _relative)]
        adapter = _trained(Path(folder) / "adapter", loops["fp32"])
        pipelines = {name: load_pipeline("tiny", adapter, device="cpu", memory=_only(name))[0] for name in BOTH}
        preset = load_pipeline("tiny", device="cpu", memory=_only("fp32"))[1]
        for size in (1, options.batch_size):
            works = {name: _denoising(pipeline, preset, size) for name, pipeline in pipelines.items()}
            rows.append(_row(f"denoising pass, batch {size}", works, options.repeats, clock, _relative))
    pixels = pair_pixels(world_pair(0))
    codecs = {name: LatentCodec(pipeline.vae, pipeline.statistics) for name, pipeline in pipelines.items()}
    encode: dict[Resolved, Work] = {name: partial(codec.encode, pixels, "rgb") for name, codec in codecs.items()}
    with torch.inference_mode():
        latents = encode["fp32"]()
        rows.append(_row("RGB and XYZ clip encoded", encode, options.repeats, clock, _relative))
        decode: dict[Resolved, Work] = {name: partial(codec.decode, latents, "rgb") for name, codec in codecs.items()}
        rows.append(_row("RGB and XYZ clip decoded", decode, options.repeats, clock, _decibels))
    print_table(
        "bfloat16 against float32",
        ("work", "fp32, ms", "bf16, ms", "times faster", "difference"),
        rows,
        notes=(
            f"{torch.get_num_threads()} threads; {'processor' if options.processor_time else 'wall'} time; "
            f"auto is {'bf16' if cpu_has_bfloat16() else 'fp32'} here",
        ),
        packages=("torch", "diffusers", "peft"),
    )


def _row(
    name: str,
    works: dict[Resolved, Work],
    repeats: int,
    clock: Callable[[], float],
    difference: Callable[[torch.Tensor, torch.Tensor], str],
) -> tuple[str, float, float, float, str]:
    seconds: dict[Resolved, list[float]] = {key: [] for key in works}
    results: dict[Resolved, torch.Tensor] = {}
    for repeat in range(repeats + 1):
        for key, work in works.items():
            started = clock()
            result = work()
            if repeat:
                seconds[key].append(clock() - started)
            else:  # warms up, and both begin from the same weights
                results[key] = result
    fp32, bf16 = (1000 * statistics.median(seconds[key]) for key in BOTH)
    return name, fp32, bf16, fp32 / bf16, difference(results["fp32"], results["bf16"])


def _relative(exact: torch.Tensor, other: torch.Tensor) -> str:
    return f"{((other - exact).square().mean() / exact.square().mean()).sqrt():.2%}"


def _decibels(exact: torch.Tensor, other: torch.Tensor) -> str:
    return f"{-10 * math.log10(((other - exact) / 2).square().mean().item()):.1f} dB"


def _only(precision: Resolved) -> MemorySettings:
    return MemorySettings(precision=precision)


def _loops(folder: Path, batch_size: int) -> dict[Resolved, TrainingLoop]:
    pipeline, preset = load_encoders("tiny", device="cpu", precision="fp32")
    latents_of(folder / "latents", worlds(batch_size, preset), pipeline, preset)
    loops: dict[Resolved, TrainingLoop] = {}
    for name in BOTH:
        torch.manual_seed(0)
        config = LoraTraining(
            latents=folder / "latents",
            output=folder / name,
            batch_size=batch_size,
            mixed_precision="bf16" if name == "bf16" else "no",
        )
        loops[name] = build_loop(config, Accelerator(cpu=True), LatentClips(config.latents), "")
    return loops


def _steps(loops: dict[Resolved, TrainingLoop]) -> dict[Resolved, Work]:
    """A step each, and the gradient's norm in place of its result."""
    return {name: partial(_step, loop) for name, loop in loops.items()}


def _step(loop: TrainingLoop) -> torch.Tensor:
    return loop.update(0)[1].detach().reshape(1)


def _trained(folder: Path, loop: TrainingLoop) -> Path:
    info = AdapterInfo(rank=loop.config.rank, alpha=loop.config.alpha, targets=loop.config.targets)
    save_adapter(folder, adapter_state(loop.accelerator.unwrap_model(loop.model)), info)
    return folder


def _denoising(pipeline: SixDPipeline, preset: Preset, batch_size: int) -> Work:
    """A forward pass with texts of 24 tokens."""
    config, numbers = pipeline.transformer.config, torch.Generator().manual_seed(0)
    frames, height, width = 1 + (preset.num_frames - 1) // 4, preset.height // 8, preset.width // 8
    hidden = torch.randn(batch_size, config.in_channels, frames, height, 2 * width, generator=numbers)
    text = torch.zeros(batch_size, TEXT_TOKENS, config.text_dim)
    text[:, :24] = torch.randn(batch_size, 24, config.text_dim, generator=numbers)
    image = torch.randn(batch_size, 17, config.image_dim, generator=numbers)
    times = torch.full((batch_size,), 700.0)

    @torch.inference_mode()
    def work() -> torch.Tensor:
        velocity: torch.Tensor = pipeline.transformer(hidden, times, text, image, return_dict=False)[0]
        return velocity

    return work


if __name__ == "__main__":
    main()
