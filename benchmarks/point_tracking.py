"""Tracks of held-out worlds against their exact motion: `python -m benchmarks.point_tracking [ADAPTER]`

Tracks come from the exact clips and, with an adapter, from the scenes that it generates of the first frames. They are
compared with "held still" (every point stays, and is always seen) and "flow and lookup" (optical flow from frame to
frame, and the point that the frame has at the pixel where it ends). Errors are of the first frame's pixels in the last
frame, in half extents of the true scene, after the alignment of `benchmarks.adapter_evaluation`.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.ground_truth_tracks import TrueTracks, true_tracks
from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.points import clip_similarity, half_extent
from fourdnex.evaluation.scoring import FRAME_STEP, PIXEL_STEP
from fourdnex.geometry.cameras import unproject
from fourdnex.motion import track_scene
from fourdnex.motion.sampling import bilinear
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.scene import Scene4D

COLUMNS = (
    *("input", "method", "worlds", "XYZ error", "median error", "of XYZ error", "still, median", "moving, median"),
    *("moving, mean", "visibility right %", "moving found %", "of those right %", "tracks a pixel", "seconds"),
)
Followed = tuple[np.ndarray, np.ndarray, np.ndarray | None, int]  # [N, T, 3], [N, T], moves [N], number of all tracks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path, nargs="?", help="adapter folder (default: exact clips alone)")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=24, help="how many held-out worlds (default 24)")
    options = parser.parse_args()
    clips = [render_world(seed) for seed in HELD_OUT_SEEDS[: options.worlds]]
    truths = [true_tracks(clip) for clip in clips]
    inputs = {"exact": [_exact(clip) for clip in clips]}
    if options.adapter is not None:
        inputs["generated"] = list(_generated(clips, options.model, options.adapter))
    methods = {"held still": _held_still, "flow and lookup": _flow_and_lookup, "tracks": _tracks}
    rows = []
    for name, scenes in inputs.items():
        for method, follow in methods.items():
            scores = np.array([_score(*each, follow) for each in zip(clips, truths, scenes, strict=True)])
            rows.append((name, method, len(clips), *_summary(scores)))
    print_table(
        "Tracks of first-frame pixels on held-out worlds",
        COLUMNS,
        rows,
        notes=[
            "XYZ error: mean distance of a generated point from the true one of its pixel, over all frames.",
            "Errors in half extents; means over the worlds.",
        ],
        packages=("numpy", "opencv-python-headless", "torch"),
    )


def _exact(clip: Clip) -> Scene4D:
    return Scene4D(
        rgb=clip.rgb,
        depth=np.asarray(clip.depth),
        intrinsics=np.asarray(clip.intrinsics),
        camera_to_world=np.asarray(clip.camera_to_world),
    )


def _generated(clips: list[Clip], model: str, adapter: Path) -> Iterator[Scene4D]:
    import fourdnex

    images, prompts = [clip.rgb[0] for clip in clips], [clip.caption for clip in clips]
    return fourdnex.generate(images, model=model, adapter=adapter, prompts=prompts)


def _tracks(scene: Scene4D) -> Followed:
    tracks = track_scene(scene)
    first = tracks.select(tracks.first_frame == 0)
    return first.positions, first.visible, first.moves, len(tracks)


def _held_still(scene: Scene4D) -> Followed:
    start = scene.points(0)[0]
    positions = np.repeat(start[:, None], scene.num_frames, axis=1)
    return positions, np.ones(positions.shape[:2], bool), None, len(positions)


def _flow_and_lookup(scene: Scene4D) -> Followed:
    gray = luminance(scene.rgb)
    points = unproject(scene.depth, scene.intrinsics, scene.camera_to_world)
    rows, columns = np.nonzero(np.isfinite(scene.depth[0]))
    places = np.stack([columns, rows], axis=1).astype(np.float32)
    size = np.array([scene.width - 1, scene.height - 1])
    positions, visible = [scene.points(0)[0]], [np.ones(len(places), bool)]
    for t in range(1, scene.num_frames):
        places = places + bilinear(optical_flow(gray[t - 1], gray[t], accurate=True), places)
        x, y = np.rint(places).clip(0, size).astype(int).T
        positions.append(points[t, y, x])
        visible.append(((places > -0.5) & (places < size + 0.5)).all(axis=1))
    return np.stack(positions, axis=1), np.stack(visible, axis=1), None, len(places)


def _score(clip: Clip, truth: TrueTracks, scene: Scene4D, follow: Callable[[Scene4D], Followed]) -> list[float]:
    """XYZ error, median, still and moving errors, visibility, recall, precision, tracks a pixel, seconds."""
    started = time.monotonic()
    positions, visible, found, count = follow(scene)
    seconds = time.monotonic() - started
    valid = np.isfinite(scene.depth[0]).reshape(-1)
    true = np.asarray(clip.annotated_pointmaps())
    sample = (slice(None, None, FRAME_STEP), slice(None, None, PIXEL_STEP), slice(None, None, PIXEL_STEP))
    points = unproject(scene.depth, scene.intrinsics, scene.camera_to_world)
    scale, rotation, translation = clip_similarity(points[sample], true[sample])
    extent = half_extent(true[sample].reshape(-1, 3))
    xyz = np.nanmean(np.linalg.norm(scale * points[sample] @ rotation.T + translation - true[sample], axis=-1))
    last = scale * positions[:, -1] @ rotation.T + translation
    error = np.linalg.norm(last - truth.positions[valid, -1], axis=-1) / extent
    moves = truth.moves[valid]
    moving = error[moves] if moves.any() else np.array([np.nan])
    recall = precision = np.nan
    if found is not None:
        recall = (found & moves).sum() / moves.sum() if moves.any() else np.nan
        precision = (found & moves).sum() / found.sum() if found.any() else np.nan
    right = (visible == truth.visible[valid]).mean()
    errors = [np.nanmedian(error), np.nanmedian(error[~moves]), np.nanmedian(moving), np.nanmean(moving)]
    return [xyz / extent, *errors, 100 * right, 100 * recall, 100 * precision, count / valid.sum(), seconds]


def _summary(scores: np.ndarray) -> list[float | None]:
    """Means over the worlds, with the ratio of median and XYZ error."""
    known = np.isfinite(scores).any(axis=0)
    means = [float(np.nanmean(column)) if good else None for column, good in zip(scores.T, known, strict=True)]
    xyz, median = scores[:, :2].mean(axis=0)
    return [means[0], means[1], float(median / xyz) if xyz > 1e-4 else None, *means[2:]]


if __name__ == "__main__":
    main()
