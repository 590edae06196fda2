"""Ways of sampling, against the public code's: `python -m benchmarks.sampling ADAPTER`

The first row is 50 steps with guidance in two passes, one image at a time. Every row generates the first frames of
the same held-out worlds from the same noise. RGB and XYZ are compared with the first row's, and XYZ with the truth.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.psnr import psnr
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.model.block_cache import Passes
from fourdnex.model.conditioning import true_first_pointmaps
from fourdnex.model.pipeline import SixDPipeline, SixDVideo, load_pipeline
from fourdnex.model.presets import Preset
from fourdnex.model.sampling import SamplingSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=8, help="how many held-out worlds (default 8)")
    parser.add_argument(
        "--guidance-scale", type=float, default=5.0, help="of all guided rows (default 5, as published)"
    )
    parser.add_argument("--distilled-lora", type=Path, help="step-distilled weights for one more row")
    options = parser.parse_args()
    pipeline, preset = load_pipeline(options.model, options.adapter)
    clips = [
        render_world(seed, num_frames=preset.num_frames, height=preset.height, width=preset.width)
        for seed in HELD_OUT_SEEDS[: options.worlds]
    ]
    _generate(pipeline, preset, clips[:1], replace(preset.sampling, num_inference_steps=1), 1)  # warm up
    rows, reference, slowest = [], None, 0.0
    notes = ["XYZ: mean distance of points. Passes that images took together count once."]
    for name, settings, batch in _variants(preset, options.guidance_scale, options.distilled_lora):
        started, used = time.perf_counter(), time.process_time()
        try:
            videos, passes = _generate(pipeline, preset, clips, settings, batch)
        except ValueError as error:
            if not settings.cache_threshold:
                raise
            # A cache that never helped: which threshold does is the base's own.
            notes.append(f"{name}: {error}.")
            continue
        seconds, used = time.perf_counter() - started, time.process_time() - used
        rgb = np.concatenate([video.rgb for video in videos])
        xyz = np.concatenate([video.xyz for video in videos])
        if reference is None:
            reference, slowest = (rgb, xyz), seconds
        distance = 100 * _distance(xyz, reference[1])
        rows.append(
            (
                name,
                seconds,
                used,
                slowest / seconds,
                f"{passes.cache_hits} of {passes.total}",
                _finite(psnr(rgb, reference[0])),
                distance,
                100 * statistics.fmean(map(_error, xyz, clips)),
            )
        )
        print(f"{name}: {seconds:.1f} s, XYZ {distance:.2f} % from the first row's", flush=True)
    print_table(
        f"Sampling of {options.worlds} worlds, {preset.name}",
        (
            "way",
            "seconds",
            "processor seconds",
            "times faster",
            "forward passes from the cache",
            "RGB PSNR against the first row, dB",
            "XYZ against the first row, % of the half extent",
            "XYZ against the truth, %",
        ),
        rows,
        notes=notes,
    )


def _variants(preset: Preset, scale: float, lora: Path | None) -> list[tuple[str, SamplingSettings, int]]:
    """Name, settings and images a batch; the first is the reference."""
    full = SamplingSettings(guidance_scale=scale)
    apart = replace(full, joint_guidance=False)
    upper = replace(full, guidance_interval=(0.5, 1.0))
    few = replace(upper, num_inference_steps=16)
    variants = [
        ("50 steps, guidance in two passes, one by one", apart, 1),
        ("the same, 8 a batch", apart, 8),
        ("guidance in one pass", full, 8),
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
        (f"the default of {preset.name}", preset.sampling, 8),
    ]
    if lora is not None:
        variants.append((f"{lora.name}", full.with_changes(distilled_lora=lora), 8))
    return variants


def _generate(
    pipeline: SixDPipeline, preset: Preset, clips: list[Clip], settings: SamplingSettings, batch: int
) -> tuple[list[SixDVideo], Passes]:
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
    return float(np.linalg.norm(points - others, axis=-1).mean())


def _error(xyz: np.ndarray, clip: Clip) -> float:
    return _distance(xyz, normalize_pointmaps(clip.annotated_pointmaps())[0])


if __name__ == "__main__":
    main()
