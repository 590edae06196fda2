"""bfloat16 against float32 on this CPU: `python -m benchmarks.precision`

float32 is what `--precision fp32` and `--mixed-precision no` use, and the default on processors without AMX or
AVX512-BF16. Both precisions alternate in one process on the same inputs, and medians are compared. The difference is
the relative error of bfloat16's result against float32's, and PSNR for pixels in [-1, 1].
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from benchmarks.fixtures import training_worlds, write_latents
from benchmarks.measuring import time_in_turns
from benchmarks.reporting import add_cpu_time_option, argument_parser, print_table
from fourdnex.latents.codec import LatentCodec
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.encoders import Encoders
from fourdnex.metrics.psnr import psnr
from fourdnex.model.adapter import adapter_state, save_adapter
from fourdnex.model.adapter_files import AdapterInfo
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.precision import Resolved, cpu_has_bfloat16
from fourdnex.model.presets import Preset, get_preset
from fourdnex.model.text_padding import TEXT_TOKENS
from fourdnex.pretraining.world_pairs import pair_pixels, world_pair
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.setup import build_loop

Work = Callable[[], torch.Tensor]
BOTH: tuple[Resolved, Resolved] = ("fp32", "bf16")


def main() -> None:
    """Time every piece of work in both precisions and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed runs of each (default: 9)")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="clips per step and images per denoising pass (default: 8)"
    )
    add_cpu_time_option(parser)
    options = parser.parse_args()
    row = partial(_row, repeats=options.repeats, cpu_time=options.cpu_time)
    with tempfile.TemporaryDirectory() as folder:
        loops = _loops(Path(folder), options.batch_size)
        rows = [row("LoRA step", _steps(loops), _relative_error)]
        adapter = _save_adapter(Path(folder) / "adapter", loops["fp32"])
        pipelines = {name: load_pipeline("tiny", adapter, device="cpu", memory=_memory(name))[0] for name in BOTH}
        preset = load_pipeline("tiny", device="cpu", memory=_memory("fp32"))[1]
        for size in (1, options.batch_size):
            works = {name: _denoising(pipeline, preset, size) for name, pipeline in pipelines.items()}
            rows.append(row(f"denoising pass, batch {size}", works, _relative_error))
    pixels = pair_pixels(world_pair(0))
    codecs = {name: LatentCodec(pipeline.vae, pipeline.statistics) for name, pipeline in pipelines.items()}
    encode: dict[Resolved, Work] = {name: partial(codec.encode, pixels, "rgb") for name, codec in codecs.items()}
    with torch.inference_mode():
        latents = encode["fp32"]()
        rows.append(row("RGB and XYZ clip encoded", encode, _relative_error))
        decode: dict[Resolved, Work] = {name: partial(codec.decode, latents, "rgb") for name, codec in codecs.items()}
        rows.append(row("RGB and XYZ clip decoded", decode, _psnr))
    print_table(
        "bfloat16 against float32",
        ("work", "fp32, ms", "bf16, ms", "speedup", "difference"),
        rows,
        notes=(
            f"{torch.get_num_threads()} threads; {'CPU' if options.cpu_time else 'wall'} time; "
            f"the default here is {'bf16' if cpu_has_bfloat16() else 'fp32'}",
        ),
        packages=("torch", "diffusers", "peft"),
    )


def _row(
    name: str,
    works: dict[Resolved, Work],
    difference: Callable[[torch.Tensor, torch.Tensor], str],
    *,
    repeats: int,
    cpu_time: bool,
) -> tuple[str, float, float, float, str]:
    """Name, milliseconds in both precisions, speedup, and the difference of the first results."""
    results: dict[Resolved, torch.Tensor] = {}

    def keep_first(precision: Resolved, number: int) -> None:
        result = works[precision]()
        if number == 0:  # later training steps start from different weights
            results[precision] = result

    timings = time_in_turns({key: partial(keep_first, key) for key in works}, repeats=repeats)
    fp32, bf16 = (1000 * timings[key].seconds(cpu=cpu_time) for key in BOTH)
    return name, fp32, bf16, fp32 / bf16, difference(results["fp32"], results["bf16"])


def _relative_error(exact: torch.Tensor, other: torch.Tensor) -> str:
    """Relative root mean square error."""
    return f"{((other - exact).square().mean() / exact.square().mean()).sqrt():.2%}"


def _psnr(exact: torch.Tensor, other: torch.Tensor) -> str:
    """PSNR of pixels in [-1, 1]."""
    return f"{psnr(other.numpy(), exact.numpy(), data_range=2.0):.1f} dB"


def _memory(precision: Resolved) -> MemorySettings:
    """Memory settings with a fixed precision."""
    return MemorySettings(precision=precision)


def _loops(folder: Path, batch_size: int) -> dict[Resolved, TrainingLoop]:
    """One training loop per precision, from the same initial weights."""
    encoders, preset = Encoders.load("tiny", device="cpu", precision="fp32"), get_preset("tiny")
    write_latents(folder / "latents", training_worlds(batch_size, preset), encoders, preset)
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
    """A training step in each precision."""
    return {name: partial(_step, loop) for name, loop in loops.items()}


def _step(loop: TrainingLoop) -> torch.Tensor:
    """Run a training step; its gradient norm stands for the result."""
    return loop.update(0)[1].detach().reshape(1)


def _save_adapter(folder: Path, loop: TrainingLoop) -> Path:
    """Save the adapter of a training loop."""
    info = AdapterInfo(rank=loop.config.rank, alpha=loop.config.alpha, targets=loop.config.targets)
    save_adapter(folder, adapter_state(loop.accelerator.unwrap_model(loop.model)), info)
    return folder


def _denoising(pipeline: SixDPipeline, preset: Preset, batch_size: int) -> Work:
    """A forward pass of the transformer with prompts of 24 tokens."""
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
