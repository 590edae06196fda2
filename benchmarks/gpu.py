"""GPU time and memory of a large base's passes against the plan: `python -m benchmarks.gpu`

Runs the real classes at the base's real size with random weights and a few transformer blocks, so that nothing is
downloaded: a training step, denoising passes, decoding and encoding, each next to the estimate of `fourdnex plan`.
With `--generate FOLDER`, also generates one scene by the base in FOLDER.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.fixtures import with_fewer_layers
from benchmarks.reporting import argument_parser, print_table
from fourdnex.model.base_components import component_configs
from fourdnex.model.memory_settings import OFFLOAD, MemorySettings
from fourdnex.model.presets import Preset, get_preset
from fourdnex.planning.estimate import denoising_bytes, training_bytes, vae_bytes
from fourdnex.planning.passes import ClipShape, Pass, denoising_pass, training_pass, vae_pass

GIB = 2**30
RANK = 64


def main() -> int:
    """Measure all passes and print one row each; the exit status."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--model", default="wan2.1-i2v-14b-480p", help="preset or folder of the base model (default: %(default)s)"
    )
    parser.add_argument("--blocks", type=int, default=8, help="number of transformer blocks (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each pass (default: 3)")
    parser.add_argument("--generate", type=Path, help="folder of a base model with weights, to generate one scene")
    parser.add_argument("--adapter", type=Path, help="adapter of that base; without one the points are meaningless")
    parser.add_argument("--offload", choices=OFFLOAD, default="none", help="as in `fourdnex generate`")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu requires a CUDA device; benchmarks.memory measures memory on a CPU", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        full = get_preset(options.model)
        name = f"{full.name}-{options.blocks}"
        preset = with_fewer_layers(full, options.blocks, Path(folder), name=name)
        clip = ClipShape(num_frames=preset.num_frames, height=preset.height, width=preset.width)
        rows = [_row(*case, options.repeats) for case in _cases(preset, clip)]
    device = torch.cuda.get_device_properties(0)
    print_table(
        f"{options.model} with {options.blocks} blocks, bfloat16, {device.name}, {device.total_memory / GIB:.0f} GiB",
        ("pass", "planned GiB", "measured GiB", "planned / measured", "seconds"),
        rows,
        notes=["Memory beyond weights and inputs, by PyTorch's allocator. Weights are random. The VAE is in float32."],
        packages=("torch", "diffusers", "peft"),
    )
    if options.generate:
        _generate(options.generate, options.adapter, MemorySettings(offload=options.offload))
    return 0


def _cases(preset: Preset, clip: ClipShape) -> list[tuple[str, int, Any]]:
    """Name, planned bytes and constructor of every pass."""
    configs = component_configs(preset)
    common: dict[str, Any] = {"rank": RANK, "precision": "bf16"}
    training = common | {"checkpointing": True}
    pair = replace(clip, batch_size=2)
    return [
        (
            "training step, checkpointed",
            training_bytes(preset, clip, **training).peak,
            lambda: training_pass(configs, clip, **training),
        ),
        (
            "denoising, joint guidance",
            denoising_bytes(preset, pair, **common).peak,
            lambda: denoising_pass(configs, pair, **common),
        ),
        ("denoising", denoising_bytes(preset, clip, **common).peak, lambda: denoising_pass(configs, clip, **common)),
        (
            "denoising, blocks compiled",
            denoising_bytes(preset, clip, **common).peak,
            lambda: _compiled(denoising_pass(configs, clip, **common)),
        ),
        (
            "decode",
            vae_bytes(preset, clip, "decode", precision="no").peak,
            lambda: vae_pass(configs, clip, "decode", precision="no"),
        ),
        (
            "encode",
            vae_bytes(preset, clip, "encode", precision="no").peak,
            lambda: vae_pass(configs, clip, "encode", precision="no"),
        ),
    ]


def _row(name: str, planned: int, make: Any, repeats: int) -> tuple[str, float, float, float, float]:
    """Name, planned and measured GiB, their ratio, and mean seconds of a pass."""
    step: Pass = make().to("cuda")
    measured = step.measure_on_gpu()
    started = time.perf_counter()
    for _ in range(repeats):
        step.run()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / repeats
    del step
    torch.cuda.empty_cache()
    return name, planned / GIB, measured / GIB, planned / measured, seconds


def _compiled(step: Pass) -> Pass:
    """The pass with its transformer blocks compiled."""
    step.model.compile_repeated_blocks()
    return step


def _generate(folder: Path, adapter: Path | None, memory: MemorySettings) -> None:
    """Generate a scene of one example photograph; print seconds and peak memory."""
    from fourdnex.generation.scenes import generate

    image = next(iter(sorted(Path("examples/photographs").glob("*.*g"))))
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    scene = next(iter(generate([image], model=folder, adapter=adapter, memory=memory)))
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / GIB
    print(f"{image}: {scene.num_frames} frames in {seconds:.0f} s including loading; peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    sys.exit(main())
