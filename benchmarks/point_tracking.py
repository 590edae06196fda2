"""Point tracking on held-out worlds against ground truth: `python -m benchmarks.point_tracking [ADAPTER]`

Tracks are computed on the exact clips and, with an adapter, on the scenes generated from their first frames. Baselines:
"static points" (every point keeps its position and is always visible) and "flow lookup" (optical flow from frame to
frame, and the frame's 3D point at the pixel where it ends). Errors are those of the first frame's pixels in the last
frame, in half extents of the true scene, after the alignment of `benchmarks.adapter_evaluation`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.fixtures import held_out_worlds
from benchmarks.ground_truth_tracks import GroundTruthTracks, ground_truth_tracks
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.evaluation.points import clip_similarity, half_extent
from fourdnex.evaluation.scoring import FRAME_STEP, PIXEL_STEP
from fourdnex.geometry.cameras import unproject
from fourdnex.motion import track_scene
from fourdnex.motion.sampling import bilinear
from fourdnex.optical_flow import luminance, optical_flow
from fourdnex.scene import Scene4D

COLUMNS = (
    *("input", "method", "worlds", "XYZ error", "median error", "ratio to XYZ error", "static, median"),
    *("moving, median", "moving, mean", "visibility accuracy %", "moving recall %", "moving precision %"),
    *("tracks per pixel", "seconds"),
)
Tracking = tuple[np.ndarray, np.ndarray, np.ndarray | None, int]
"""Positions [N, T, 3], visibility [N, T] and motion [N] of the first frame's pixels, and the number of all tracks."""


def main() -> None:
    """Track all inputs with every method and print one row per pair."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, nargs="?", help="adapter folder (default: only exact clips)")
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=24, help="number of held-out worlds (default: 24)")
    options = parser.parse_args()
    clips = held_out_worlds(options.worlds)
    truths = [ground_truth_tracks(clip) for clip in clips]
    inputs = {"exact": [_exact(clip) for clip in clips]}
    if options.adapter is not None:
        inputs["generated"] = list(_generated(clips, options.model, options.adapter))
    methods = {"static points": _static_points, "flow lookup": _flow_lookup, "tracks": _tracks}
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
    """A clip as a scene."""
    return Scene4D(
        rgb=clip.rgb,
        depth=np.asarray(clip.depth),
        intrinsics=np.asarray(clip.intrinsics),
        camera_to_world=np.asarray(clip.camera_to_world),
    )


def _generated(clips: list[Clip], model: str, adapter: Path) -> Iterator[Scene4D]:
    """Scenes generated from the first frames and captions."""
    import fourdnex

    images, prompts = [clip.rgb[0] for clip in clips], [clip.caption for clip in clips]
    return fourdnex.generate(images, model=model, adapter=adapter, prompts=prompts)


def _tracks(scene: Scene4D) -> Tracking:
    """The tracks of `fourdnex.tracks` that start in the first frame."""
    tracks = track_scene(scene)
    first = tracks.select(tracks.first_frame == 0)
    return first.positions, first.visible, first.moves, len(tracks)


def _static_points(scene: Scene4D) -> Tracking:
    """The points of the first frame, unmoved and always visible."""
    start = scene.points(0)[0]
    positions = np.repeat(start[:, None], scene.num_frames, axis=1)
    return positions, np.ones(positions.shape[:2], bool), None, len(positions)


def _flow_lookup(scene: Scene4D) -> Tracking:
    """Points looked up at the pixels that chained optical flow leads to."""
    gray = luminance(scene.rgb)
    points = unproject(scene.depth, scene.intrinsics, scene.camera_to_world)
    rows, columns = np.nonzero(np.isfinite(scene.depth[0]))
    pixels = np.stack([columns, rows], axis=1).astype(np.float32)
    size = np.array([scene.width - 1, scene.height - 1])
    positions, visible = [scene.points(0)[0]], [np.ones(len(pixels), bool)]
    for t in range(1, scene.num_frames):
        pixels = pixels + bilinear(optical_flow(gray[t - 1], gray[t], "accurate"), pixels)
        x, y = np.rint(pixels).clip(0, size).astype(int).T
        positions.append(points[t, y, x])
        visible.append(((pixels > -0.5) & (pixels < size + 0.5)).all(axis=1))
    return np.stack(positions, axis=1), np.stack(visible, axis=1), None, len(pixels)


def _score(clip: Clip, truth: GroundTruthTracks, scene: Scene4D, track: Callable[[Scene4D], Tracking]) -> list[float]:
    """The numbers of `COLUMNS` from the XYZ error on, without the ratio to it."""
    started = time.monotonic()
    positions, visible, predicted_moves, count = track(scene)
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
    if predicted_moves is not None:
        recall = (predicted_moves & moves).sum() / moves.sum() if moves.any() else np.nan
        precision = (predicted_moves & moves).sum() / predicted_moves.sum() if predicted_moves.any() else np.nan
    accuracy = (visible == truth.visible[valid]).mean()
    errors = [np.nanmedian(error), np.nanmedian(error[~moves]), np.nanmedian(moving), np.nanmean(moving)]
    return [xyz / extent, *errors, 100 * accuracy, 100 * recall, 100 * precision, count / valid.sum(), seconds]


def _summary(scores: np.ndarray) -> list[float | None]:
    """Means over the worlds, with the ratio of the median error to the XYZ error."""
    has_values = np.isfinite(scores).any(axis=0)
    means = [
        float(np.nanmean(column)) if present else None for column, present in zip(scores.T, has_values, strict=True)
    ]
    xyz, median = scores[:, :2].mean(axis=0)
    return [means[0], means[1], float(median / xyz) if xyz > 1e-4 else None, *means[2:]]


if __name__ == "__main__":
    main()
