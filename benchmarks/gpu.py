"""Seconds and memory of the large path on this machine's GPU, against the plan: `python -m benchmarks.gpu`

Passes of the real classes at the base's real size, with random weights and a few of its blocks, so that no download is
needed: a training step, denoising steps, a decode and an encode, each with what `fourdnex plan` expects of it. With
`--generate FOLDER` one whole image by the base in FOLDER too.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.reporting import print_table
from fourdnex.model.base_components import COMPONENTS, component_configs
from fourdnex.model.memory_settings import OFFLOAD, MemorySettings
from fourdnex.model.presets import Preset, get_preset
from fourdnex.planning.estimate import denoising_bytes, training_bytes, vae_bytes
from fourdnex.planning.passes import Clip, Pass, denoising_pass, training_pass, vae_pass

GIB = 2**30
RANK = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="wan2.1-i2v-14b-480p", help="preset or folder of the base")
    parser.add_argument("--blocks", type=int, default=8, help="blocks of the transformer (default 8 of them)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each pass (default 3)")
    parser.add_argument("--generate", type=Path, help="folder of a base with its weights, for one whole image")
    parser.add_argument("--adapter", type=Path, help="of that base; without one its points mean nothing")
    parser.add_argument("--offload", choices=OFFLOAD, default="none", help="as in `fourdnex generate`")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA device; `python -m benchmarks.memory` runs without one", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        preset = _shallow(get_preset(options.model), options.blocks, Path(folder))
        clip = Clip(num_frames=preset.num_frames, height=preset.height, width=preset.width)
        rows = [_row(*case, options.repeats) for case in _cases(preset, clip)]
    device = torch.cuda.get_device_properties(0)
    print_table(
        f"{options.model} with {options.blocks} blocks, bfloat16, {device.name}, {device.total_memory / GIB:.0f} GiB",
        ("pass", "planned GiB", "measured GiB", "planned / measured", "seconds"),
        rows,
        notes=["Memory beyond weights and inputs, by PyTorch's allocator; random weights. The VAE is in float32."],
        packages=("torch", "diffusers", "peft"),
    )
    if options.generate:
        _generate(options.generate, options.adapter, MemorySettings(offload=options.offload))
    return 0


def _cases(preset: Preset, clip: Clip) -> list[tuple[str, int, Any]]:
    """Name, planned bytes, and what makes the pass."""
    configs = component_configs(preset)
    common: dict[str, Any] = {"rank": RANK, "precision": "bf16"}
    trained = common | {"checkpointing": True}
    pair = replace(clip, batch_size=2)
    return [
        (
            "training step, checkpointed",
            training_bytes(preset, clip, **trained).peak,
            lambda: training_pass(configs, clip, **trained),
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
    step.model.compile_repeated_blocks()
    return step


def _shallow(preset: Preset, num_blocks: int, folder: Path) -> Preset:
    """The same base with fewer blocks, as a folder of configurations."""
    configs = component_configs(preset)
    configs = configs | {"transformer": configs["transformer"] | {"num_layers": num_blocks}}
    for part in COMPONENTS:
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(configs[part]))
    return replace(preset, name=f"{preset.name}-{num_blocks}", location=str(folder))


def _generate(folder: Path, adapter: Path | None, memory: MemorySettings) -> None:
    from fourdnex.generation.scenes import generate

    image = next(iter(sorted(Path("examples/photographs").glob("*.*g"))))
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    scene = next(iter(generate([image], model=folder, adapter=adapter, memory=memory)))
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / GIB
    print(f"{image}: {scene.num_frames} frames in {seconds:.0f} s, loading included; at most {peak:.1f} GiB")


if __name__ == "__main__":
    sys.exit(main())
