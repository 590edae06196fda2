"""Training on partly unknown depth, weighted by confidence against not: `python -m benchmarks.confidence_weighting`

The depth of training worlds is damaged as structure from motion leaves it: 30 to 60 % of the pixels of each clip are
unknown, in blobs, on the dynamic objects and on surfaces without texture; the others have a confidence of 0.2 to 1 and
smooth relative errors of up to 30 % at the lowest confidence. All adapters are trained from the same base with the same
seeds, order of clips and number of steps, on
- exact: the undamaged depth;
- former: unknown depth interpolated from its surroundings as earlier versions of `sfm` did, all pixels of weight 1;
- smooth fill: unknown points filled for the VAE, all of weight 1;
- weighted: the same, and the loss weighted by confidence (what `encode` and `train` do).
Errors are measured on held-out worlds with exact depth.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.fixtures import held_out_worlds, size_of, training_worlds
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.evaluation.benchmark import Evaluation, score_adapter
from fourdnex.evaluation.report import metric_means
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.latents.encoders import CaptionCache, Encoders
from fourdnex.latents.encoding import encode_clip
from fourdnex.latents.shards import PLANE, LatentEncoding, estimate_statistics, write_latent_shard
from fourdnex.model.conditioning import plane_condition
from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.training.trainer import LoraTraining, train

METRICS = ("abs_rel", "delta1", "ate", "chamfer", "xyz_error", "psnr")
VARIANTS = ("exact", "former", "smooth fill", "weighted")


def damaged(clip: Clip, seed: int) -> tuple[Clip, Clip]:
    """The clip with unknown and wrong depth and its confidence; and with interpolated depth of confidence 1."""
    rng = np.random.default_rng([7, seed])
    assert clip.depth is not None and clip.dynamic_mask is not None
    frames, height, width = clip.depth.shape
    texture = np.hypot(*np.gradient(clip.rgb.mean(axis=-1), axis=(1, 2)))

    def smooth_noise() -> np.ndarray:
        """Noise [T, H, W] without fine detail."""
        return gaussian_filter(rng.standard_normal((frames, height, width)), (3, 5, 5))

    rank = _ranks(smooth_noise()) - 0.6 * _ranks(gaussian_filter(texture, (0, 2, 2))) + 2.0 * clip.dynamic_mask
    known = rank <= np.quantile(rank, 1 - rng.uniform(0.3, 0.6))
    confidence = (0.2 + 0.8 * _ranks(smooth_noise())).astype(np.float32)
    error = smooth_noise()
    wrong = clip.depth * (1 + 0.3 * (1 - confidence) / 0.8 * error / np.abs(error).max()).astype(np.float32)
    confidence[~known] = 0
    unknown = replace(clip, depth=np.where(known, wrong, np.float32(np.nan)), confidence=confidence)
    filled = interpolated(wrong, known)
    return unknown, replace(clip, depth=filled)


def interpolated(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Depth [T, H, W] where it is known, elsewhere interpolated from the inverse depth of surrounding pixels."""
    result = np.empty_like(depth)
    for out, z, good in zip(result, depth, known, strict=True):
        weight = good.astype(np.float32)
        levels = [(weight / z, weight)]
        while min(levels[-1][1].shape) > 2:
            levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
        value, total = levels.pop()
        coarse = np.float32(value.sum() / max(float(total.sum()), 1e-12) or 1 / np.median(z))
        estimate = np.where(total > 1e-6, value / np.maximum(total, 1e-6), coarse).astype(np.float32)
        for value, total in reversed(levels):
            enlarged = np.asarray(cv2.resize(estimate, total.shape[::-1], interpolation=cv2.INTER_LINEAR))
            blend = np.minimum(total * 4, 1)
            estimate = blend * value / np.maximum(total, 1e-6) + (1 - blend) * enlarged
        out[:] = np.where(good, z, 1 / np.maximum(estimate, 1e-6))
    return result


def _ranks(values: np.ndarray) -> np.ndarray:
    """Values by their rank, from 0 to 1."""
    ranks = np.empty(values.size)
    ranks[np.argsort(values, axis=None, kind="stable")] = np.linspace(0, 1, values.size)
    return ranks.reshape(values.shape)


def write_variants(out: Path, clips: list[Clip], preset: Preset) -> float:
    """Encode the clips in every variant; returns the mean share of unknown pixels."""
    encoders = Encoders.load(preset.location)
    codec = LatentCodec(encoders.vae, REFERENCE_STATISTICS)
    encoding = LatentEncoding(base_digest=base_digest(preset.location))
    with torch.inference_mode():
        plane = plane_condition(codec, **size_of(preset))[0].clone()
    tensors: dict[str, dict[str, torch.Tensor]] = {variant: {PLANE: plane} for variant in VARIANTS}
    rows: dict[str, list[dict[str, float | str]]] = {variant: [] for variant in VARIANTS}
    captions, shares = CaptionCache(encoders), []
    for seed, clip in enumerate(clips):
        unknown, invented = damaged(clip, seed)
        assert unknown.confidence is not None
        shares.append(float((unknown.confidence == 0).mean()))
        versions = {"exact": clip, "former": invented, "weighted": unknown}
        for variant, version in versions.items():
            encoded, row = encode_clip(version, encoders, preset, codec, encoding, captions=captions)
            tensors[variant] |= {f"{clip.name}/{key}": value for key, value in encoded.items()}
            rows[variant].append(row)
    plain = {key: value for key, value in tensors["weighted"].items() if not key.endswith("/xyz_weight")}
    tensors["smooth fill"], rows["smooth fill"] = plain, rows["weighted"]
    for variant in VARIANTS:
        folder = out / variant.replace(" ", "-") / "latents"
        folder.mkdir(parents=True, exist_ok=True)
        write_latent_shard(folder, "worlds", tensors[variant], pd.DataFrame(rows[variant]), "benchmark", encoding)
        estimate_statistics(folder)
    return float(np.mean(shares))


def main() -> None:
    """Encode, train and evaluate every variant and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("workspace/benchmarks/confidence_weighting"))
    add_model_option(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run per seed (default: 0)")
    parser.add_argument("--steps", type=int, default=240, help="training steps (default: 240)")
    parser.add_argument("--worlds", type=int, default=128, help="number of training worlds (default: 128)")
    parser.add_argument("--held-out", type=int, default=32, help="number of held-out worlds (default: 32)")
    options = parser.parse_args()
    preset = get_preset(options.model)
    share = write_variants(options.out, training_worlds(options.worlds, preset), preset)
    held_out = held_out_worlds(options.held_out)
    means: dict[str, list[dict[str, float | None]]] = {variant: [] for variant in VARIANTS}
    for variant in VARIANTS:
        for seed in options.seeds:
            folder = options.out / variant.replace(" ", "-")
            adapter = folder / f"adapter-{seed}"
            train(
                LoraTraining(
                    latents=folder / "latents",
                    output=adapter,
                    model=options.model,
                    steps=options.steps,
                    seed=seed,
                    num_samples=0,
                    track=False,
                )
            )
            config = Evaluation(adapter=adapter, out=folder, model=options.model, seed=seed)
            means[variant].append(metric_means(pd.DataFrame(score_adapter(config, held_out))))
    print_table(
        f"Training with {share:.0%} of the depth unknown: {options.steps} steps, {options.worlds} worlds, "
        f"{options.held_out} held-out worlds",
        ("training depth", *METRICS),
        [
            (variant, *(_values([float(row[metric] or 0) for row in found]) for metric in METRICS))
            for variant, found in means.items()
        ],
    )


def _values(found: list[float]) -> str:
    """The median over seeds, with the range if there are several."""
    text = f"{np.median(found):.4g}"
    return text if len(found) == 1 else f"{text} ({min(found):.4g} to {max(found):.4g})"


if __name__ == "__main__":
    main()
