"""Sampling options against the reference implementation's sampling: `python -m benchmarks.sampling ADAPTER`

The first row is 50 steps with guidance in two passes, one image at a time, as in the reference implementation. Every
row generates from the first frames of the same held-out worlds and the same noise. RGB and XYZ are compared with the
first row, and XYZ with the ground truth.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.fixtures import size_of
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.latents.first_pointmaps import true_first_pointmaps
from fourdnex.metrics.psnr import psnr
from fourdnex.model.block_cache import Passes
from fourdnex.model.pipeline import SixDPipeline, SixDVideo, load_pipeline
from fourdnex.model.presets import Preset
from fourdnex.model.sampling import SamplingSettings


def main() -> None:
    """Generate with every variant and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=8, help="number of held-out worlds (default: 8)")
    parser.add_argument(
        "--guidance-scale",
        type=float,
        default=5.0,
        help="of all guided rows (default: 5, as in the reference implementation)",
    )
    parser.add_argument("--distilled-lora", type=Path, help="step-distilled LoRA, measured in an additional row")
    options = parser.parse_args()
    pipeline, preset = load_pipeline(options.model, options.adapter)
    clips = [render_world(seed, **size_of(preset)) for seed in HELD_OUT_SEEDS[: options.worlds]]
    _generate(pipeline, preset, clips[:1], replace(preset.sampling, num_inference_steps=1), 1)  # warm up
    rows, reference, slowest = [], None, 0.0
    notes = ["XYZ: mean distance between points. A forward pass of a batch counts once."]
    for name, settings, batch in _variants(preset, options.guidance_scale, options.distilled_lora):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        try:
            videos, passes = _generate(pipeline, preset, clips, settings, batch)
        except ValueError as error:
            if not settings.cache_threshold:
                raise
            # The cache was never used: useful thresholds depend on the base model.
            notes.append(f"{name}: {error}.")
            continue
        seconds, cpu_seconds = time.perf_counter() - wall_start, time.process_time() - cpu_start
        rgb = np.concatenate([video.rgb for video in videos])
        xyz = np.concatenate([video.xyz for video in videos])
        if reference is None:
            reference, slowest = (rgb, xyz), seconds
        distance = 100 * _distance(xyz, reference[1])
        rows.append(
            (
                name,
                seconds,
                cpu_seconds,
                slowest / seconds,
                f"{passes.cache_hits} of {passes.total}",
                _finite(psnr(rgb, reference[0])),
                distance,
                100 * statistics.fmean(map(_error, xyz, clips)),
            )
        )
        print(f"{name}: {seconds:.1f} s, XYZ {distance:.2f} % from the first row", flush=True)
    print_table(
        f"Sampling of {options.worlds} worlds, {preset.name}",
        (
            "variant",
            "seconds",
            "CPU seconds",
            "speedup",
            "cached forward passes",
            "RGB PSNR against the first row, dB",
            "XYZ against the first row, % of the half extent",
            "XYZ against the ground truth, % of the half extent",
        ),
        rows,
        notes=notes,
    )


def _variants(preset: Preset, scale: float, lora: Path | None) -> list[tuple[str, SamplingSettings, int]]:
    """Name, sampling settings and batch size; the first variant is the reference implementation's."""
    full = SamplingSettings(guidance_scale=scale)
    two_passes = replace(full, joint_guidance=False)
    upper = replace(full, guidance_interval=(0.5, 1.0))
    few = replace(upper, num_inference_steps=16)
    variants = [
        ("50 steps, guidance in two passes, batch 1", two_passes, 1),
        ("50 steps, guidance in two passes, batch 8", two_passes, 8),
        ("50 steps, guidance in one pass", full, 8),
        ("guidance above noise level 0.25", replace(full, guidance_interval=(0.25, 1.0)), 8),
        ("guidance above noise level 0.5", upper, 8),
        ("cache 0.05", replace(full, cache_threshold=0.05), 8),
        ("cache 0.1", replace(full, cache_threshold=0.1), 8),
        ("cache 0.2", replace(full, cache_threshold=0.2), 8),
        ("guidance above 0.5, cache 0.1", replace(upper, cache_threshold=0.1), 8),
        ("25 steps", replace(full, num_inference_steps=25), 8),
        ("16 steps", replace(full, num_inference_steps=16), 8),
        ("16 steps, guidance above 0.5", few, 8),
        ("8 steps, guidance above 0.5", replace(few, num_inference_steps=8), 8),
        ("50 steps without guidance", replace(full, guidance_scale=1.0), 8),
        (f"default of {preset.name}", preset.sampling, 8),
    ]
    if lora is not None:
        variants.append((f"{lora.name}", full.with_changes(distilled_lora=lora), 8))
    return variants


def _generate(
    pipeline: SixDPipeline, preset: Preset, clips: list[Clip], settings: SamplingSettings, batch: int
) -> tuple[list[SixDVideo], Passes]:
    """Videos of all clips, and the number of forward passes."""
    videos, passes = [], Passes()
    for start in range(0, len(clips), batch):
        part = clips[start : start + batch]
        video = pipeline.generate(
            np.stack([clip.rgb[0] for clip in part]),
            [clip.caption for clip in part],
            num_frames=preset.num_frames,
            seeds=list(range(start, start + len(part))),
            sampling=settings,
            first_pointmaps=true_first_pointmaps(pipeline.recipe, part),
        )
        videos.append(video)
        passes = sum(video.passes, passes) if settings.cache_threshold else passes + video.passes[0]
    return videos, passes


def _finite(value: float) -> float | None:
    """The value; None if it is infinite, as the PSNR of equal videos is."""
    return value if np.isfinite(value) else None


def _distance(points: np.ndarray, others: np.ndarray) -> float:
    """Mean distance between points."""
    return float(np.linalg.norm(points - others, axis=-1).mean())


def _error(xyz: np.ndarray, clip: Clip) -> float:
    """Mean distance between generated and true normalized points."""
    return _distance(xyz, normalize_pointmaps(clip.annotated_pointmaps())[0])


if __name__ == "__main__":
    main()
