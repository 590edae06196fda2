"""Annotation of rendered videos by structure from motion, against their exact cameras and depth.

    python -m benchmarks.structure_from_motion --videos 8
    python -m benchmarks.structure_from_motion --videos 8 --baseline ../fourdnex-of-another-version

Each video has three clips of 17 frames, photographs as textures, a hand-held camera and radial distortion; some only
rotate the camera or hardly move it, which an annotator must refuse. With `--baseline`, the checkout of another version
annotates the same clips in the same run. A clip is wrong if its focal length is off by more than 25 %, or its mean
rotation error is above 3 degrees; it is usable if its camera moves by more than 3 % of the distance of the scene.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.rendered_videos import RenderedVideo, clips_of, render_video
from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.evaluation.pose import pose_metrics

NUM_FRAMES = 17
MOTIONS = ("sideways", "orbit", "forward", "sideways", "orbit", "forward", "rotation", "weak")
FOCAL_ERROR, ROTATION_ERROR = 0.25, 3.0
ANNOTATE = """
import sys, time
from fourdnex.annotation import annotate_shard
from fourdnex.datasets.manifest import read_manifest
started = time.process_time()
for shard in read_manifest(sys.argv[1])["shard"].unique():
    annotate_shard(sys.argv[1], shard, sys.argv[2])
import resource
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.process_time() - started + children.ru_utime + children.ru_stime)
"""


def main() -> None:
    """Annotate rendered videos and print a table of errors."""
    parser = argument_parser(__doc__)
    parser.add_argument("--videos", type=int, default=8, help="number of videos")
    parser.add_argument("--first-seed", type=int, default=300, help="seed of the first video")
    parser.add_argument("--baseline", type=Path, help="checkout of another version to run beside this one")
    parser.add_argument("--moving", action="store_true", help="two objects move in each video")
    arguments = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="fourdnex-sfm-benchmark-") as temporary:
        folder = Path(temporary)
        videos = _render(folder / "data", arguments.videos, arguments.first_seed, moving=arguments.moving)
        versions = {"this version": Path(__file__).parents[1]}
        if arguments.baseline is not None:
            versions = {"baseline": arguments.baseline.absolute()} | versions
        for title, checkout in versions.items():
            out = folder / title.replace(" ", "-")
            seconds = _annotate(checkout, folder / "data", out)
            rows.append(_row(title, videos, out, seconds))
    title = f"Structure from motion, {arguments.videos} rendered videos of three clips"
    print_table(title, list(rows[0]), [[_text(value) for value in row.values()] for row in rows])


def _render(data: Path, count: int, first_seed: int, *, moving: bool) -> list[RenderedVideo]:
    """Render the videos, and write them as a source data set."""
    from benchmarks.rendered_videos import write_rendered_dataset

    videos = [
        render_video(first_seed + i, num_frames=3 * NUM_FRAMES, motion=MOTIONS[i % len(MOTIONS)], moving=moving)
        for i in range(count)
    ]
    write_rendered_dataset(data, videos)
    return videos


def _annotate(checkout: Path, data: Path, out: Path) -> float:
    """Annotate the data set with the code of a checkout in a process of its own; returns its processor seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ANNOTATE, str(data.absolute()), str(out.absolute())]
    run = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{checkout}: annotation failed: {run.stderr[-2000:]}")
    return float(run.stdout.split()[-1])


def _row(title: str, videos: list[RenderedVideo], out: Path, seconds: float) -> dict[str, object]:
    """Row of the table for the annotated shards of one version."""
    annotated, reasons = _read(out)
    usable = accepted_usable = wrong = 0
    errors: dict[str, list[float]] = {key: [] for key in ("focal", "rotation", "ate", "abs_rel", "close", "known")}
    num_clips = 0
    for video in videos:
        for start, clip in enumerate(clips_of(video, NUM_FRAMES)):
            num_clips += 1
            frames = range(start * NUM_FRAMES, (start + 1) * NUM_FRAMES)
            is_usable = _parallax(video, frames) > 0.03
            usable += is_usable
            found = annotated.get(clip.name)
            if found is None:
                if is_usable:
                    print(f"{title}: {video.place}, {video.motion}: {reasons.get(clip.name)}", file=sys.stderr)
                continue
            each = _errors(video, frames, found)
            is_wrong = each["focal"] > FOCAL_ERROR or each["rotation"] > ROTATION_ERROR
            wrong += is_wrong
            accepted_usable += is_usable and not is_wrong
            for key in errors:
                errors[key].append(each[key])
    accepted = len(annotated)
    median = {key: float(np.median(values)) if values else float("nan") for key, values in errors.items()}
    return {
        "version": title,
        "clips": num_clips,
        "annotated": accepted,
        "wrong": wrong,
        "usable, annotated right": f"{accepted_usable} of {usable}",
        "focal error": median["focal"],
        "rotation error, degrees": median["rotation"],
        "ATE / path": median["ate"],
        "AbsRel, known": median["abs_rel"],
        "pixels within .05": median["close"],
        "pixels known": median["known"],
        "CPU s a clip": seconds / num_clips,
    }


def _read(out: Path) -> tuple[dict[str, Clip], dict[str, str]]:
    """Annotated clips by name, and the reasons of the others."""
    from fourdnex.datasets.annotated import iter_annotated, read_annotated_table

    clips: dict[str, Clip] = {}
    reasons: dict[str, str] = {}
    for path in sorted(out.glob("[!.]*.parquet")):
        clips |= {clip.name: clip for clip in iter_annotated(out, path.stem)}
        table = read_annotated_table(out, path.stem)
        reasons |= dict(zip(table["name"], table["reason"], strict=True))
    return clips, reasons


def _parallax(video: RenderedVideo, frames: range) -> float:
    """Length of the camera's displacement in a clip, in median depths."""
    centers = video.camera_to_world[frames.start : frames.stop, :3, 3]
    extent = np.linalg.norm(centers - centers[0], axis=1).max()
    return float(extent / np.nanmedian(video.depth[frames.start]))


def _errors(video: RenderedVideo, frames: range, clip: Clip) -> dict[str, float]:
    """Errors of an annotated clip."""
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    true_poses = video.camera_to_world[frames.start : frames.stop].astype(np.float64)
    true_poses = np.linalg.inv(true_poses[0]) @ true_poses
    pose = pose_metrics(clip.camera_to_world, true_poses)
    length = float(np.linalg.norm(np.diff(true_poses[:, :3, 3], axis=0), axis=1).sum())
    cosines = (np.einsum("tji,tji->t", clip.camera_to_world[:, :3, :3], true_poses[:, :3, :3]) - 1) / 2
    truth, _ = video.truth(frames, clip.intrinsics, clip.height, clip.width)
    known = np.isfinite(truth) & np.isfinite(clip.depth) & (clip.depth > 0)
    known &= np.ones_like(known) if clip.confidence is None else clip.confidence > 0
    ratio = truth[known] / clip.depth[known]
    error = np.abs(clip.depth[known] * np.median(ratio) - truth[known]) / truth[known]
    return {
        "focal": abs(float(clip.intrinsics[0, 0]) / clip.width / _true_focal(video, clip) - 1),
        "rotation": float(np.rad2deg(np.arccos(np.clip(cosines, -1, 1))).mean()),
        "ate": pose.ate / max(length, 1e-9),
        "abs_rel": float(error.mean()) if known.any() else float("nan"),
        "close": float((error < 0.05).sum() / np.isfinite(truth).sum()),
        "known": float(known.mean()),
    }


def _text(value: object) -> str:
    """A value as text; floats with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _true_focal(video: RenderedVideo, clip: Clip) -> float:
    """Focal length in image widths; the widths of a clip and its video show the same."""
    return float(video.intrinsics[0, 0]) / video.rgb.shape[2]


if __name__ == "__main__":
    main()
