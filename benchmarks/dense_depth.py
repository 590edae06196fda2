"""Dense depth against exact truth: `python -m benchmarks.dense_depth`

Static rendered videos of photo worlds with their true cameras (without distortion), and Middlebury's Motorcycle (two
views, known cameras). Beside ours: the previous sweep with 48 planes and filled holes (`benchmarks.former_stereo`).
Sparse points are true points at corners of the image, the error of the depth is free of one scale per clip.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.rendered_videos import render_video
from benchmarks.reporting import argument_parser, print_table
from fourdnex.annotation.dense_depth import depth_range, estimate
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.geometry.cameras import unproject
from fourdnex.optical_flow import luminance


@dataclass(frozen=True)
class Case:
    """Frames with true cameras and depth."""

    name: str
    rgb: np.ndarray  # [T, H, W, 3] uint8
    depth: np.ndarray  # [T, H, W], NaN where there is none
    structure: Structure
    dynamic_mask: np.ndarray  # [T, H, W] bool


def true_structure(
    rgb: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray, still: np.ndarray
) -> Structure:
    """The true cameras with true points at corners of the frames; `still` [T, H, W] excludes moving objects."""
    points, observed = [], []
    gray = luminance(rgb)
    world = unproject(depth, intrinsics.astype(np.float32), camera_to_world.astype(np.float32))
    for frame, image in enumerate(gray):
        corners = cv2.goodFeaturesToTrack(image, 150, 0.01, 5)
        x, y = np.rint(corners[:, 0]).astype(int).T
        keep = np.isfinite(depth[frame, y, x]) & still[frame, y, x]
        points.append(world[frame, y[keep], x[keep]])
        observed.append(np.full(keep.sum(), frame))
    owner = np.concatenate(observed)
    marks = owner[None] == np.arange(len(rgb))[:, None]
    return Structure(
        intrinsics.astype(np.float64), camera_to_world.astype(np.float64), np.concatenate(points), marks, 0.5
    )


def rendered_case(seed: int, *, moving: bool = False, num_frames: int = 17) -> Case:
    """One clip of a rendered video at working size, with true cameras and without distortion."""
    video = render_video(seed, num_frames=num_frames, height=240, width=360, moving=moving, k1=0.0)
    structure = true_structure(video.rgb, video.depth, video.intrinsics, video.camera_to_world, ~video.dynamic_mask)
    return Case(video.name, video.rgb, video.depth, structure, video.dynamic_mask)


def motorcycle() -> Case:
    """Middlebury's Motorcycle; the right image is shifted so that both have the same principal point."""
    from skimage import data

    left, right, disparity = data.stereo_motorcycle()  # type: ignore[no-untyped-call]
    focal, center, difference, baseline = 994.978, (311.193, 254.877), 31.086, 0.193001
    height, width = disparity.shape
    shifted = cv2.warpAffine(right, np.array([[1, 0, -difference], [0, 1, 0]]), (width, height), flags=cv2.INTER_LINEAR)
    depth = np.where(np.isfinite(disparity) & (disparity > 0), focal * baseline / (disparity + difference), np.nan)
    intrinsics = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = baseline
    depths = np.stack([depth, np.full_like(depth, np.nan)]).astype(np.float32)
    rgb = np.stack([left, shifted])
    still = np.ones(depths.shape, bool)
    structure = true_structure(rgb, depths, intrinsics, poses, still)
    observed = np.ones((2, len(structure.points)), bool)
    structure = Structure(structure.intrinsics, poses, structure.points, observed, 0.5)
    return Case("middlebury-motorcycle", rgb, depths, structure, ~still)


def score(depth: np.ndarray, confidence: np.ndarray, case: Case) -> dict[str, float]:
    """Share of pixels with known depth, its AbsRel after one scale, share within .05, and rank correlation.

    Shares are of the pixels with a true depth; the rank correlation is Spearman's of confidence and relative error.
    """
    from scipy.stats import spearmanr

    true = np.isfinite(case.depth) & ~case.dynamic_mask
    known = true & np.isfinite(depth) & (confidence > 0)
    ratio = case.depth[known] / depth[known]
    error = np.abs(depth[known] * np.median(ratio) / case.depth[known] - 1)
    return {
        "coverage": float(known.sum() / true.sum()),
        "absrel": float(error.mean()),
        "good": float((error <= 0.05).sum() / true.sum()),
        "rank": float(spearmanr(confidence[known], error)[0]),
        "weighted": float((error * confidence[known]).sum() / confidence[known].sum()),
    }


def cases(videos: int) -> Iterator[Case]:
    """Motorcycle and static rendered videos with even seeds from 100; the confidence is fitted on odd seeds."""
    yield motorcycle()
    for number in range(videos):
        yield rendered_case(100 + 2 * number)


def main() -> None:
    """Print the table."""
    from benchmarks.former_stereo import sweep

    parser = argument_parser(__doc__)
    parser.add_argument("--videos", type=int, default=24, help="number of rendered videos (default: 24)")
    rows: list[tuple[object, ...]] = []
    totals: dict[str, list[dict[str, float]]] = {"ours": [], "previous sweep": []}
    for case in cases(parser.parse_args().videos):
        start = time.perf_counter()
        dense = estimate(case.rgb, case.structure)
        ours = time.perf_counter() - start
        gray = luminance(case.rgb).astype(np.float32) / 255
        ranges = depth_range(case.structure)
        before = sweep(gray, case.structure.intrinsics, case.structure.camera_to_world, ranges)
        results = {
            "ours": (dense.depth, dense.confidence, ours),
            "previous sweep": (*before, time.perf_counter() - start - ours),
        }
        for method, (depth, confidence, seconds) in results.items():
            values = {**score(depth, confidence, case), "seconds": seconds}
            rows.append((case.name, method, *values.values()))
            if not case.name.startswith("middlebury"):
                totals[method].append(values)
    for method, scores in totals.items():
        if scores:
            rows.append(("mean of videos", method, *(float(np.mean([s[key] for s in scores])) for key in scores[0])))
    columns = ("clip", "method", "known", "AbsRel", "within .05", "rank correlation", "weighted AbsRel", "seconds")
    print_table("Dense depth", columns, rows, notes=("Known and within .05: share of all pixels with a true depth.",))


if __name__ == "__main__":
    main()
