"""Planted defects: which share curation catches, for the right reason, and how many good clips it rejects.

    python -m benchmarks.planted_defects --good 200 --planted 20

Good clips are worlds of all families at 96x144 and photo-textured rendered videos with hand-held cameras at 160x240,
with exact geometry that is treated as an estimate. Every defect is planted into good clips whose camera moves. The
baseline is the code before stages were introduced (commit e2694fb), from a checkout of it (`--baseline FOLDER`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.curation import curate, score_shard
from fourdnex.datasets.annotated import clip_arrays, clip_row, save_arrays, write_annotated
from fourdnex.datasets.worlds import render_world
from fourdnex.datasets.worlds.families import FAMILIES
from fourdnex.geometry.cameras import relative_to_first

if TYPE_CHECKING:
    from benchmarks.rendered_videos import RenderedVideo

REASONS: dict[str, tuple[str, ...]] = {
    "dark": ("min_brightness", "min_contrast"),
    "bright": ("max_brightness", "max_bright_share", "min_contrast"),
    "blurred": ("min_sharpness",),
    "text": ("max_text_share",),
    "cut inside": ("max_cut",),
    "frozen": ("max_frozen_share", "min_motion"),
    "shaking": ("max_shake",),
    "duplicate": ("duplicate",),
    "black bars": ("max_bar_share",),
    "inverted depth": ("max_flow_error", "max_depth_error", "max_warp_error"),
    "noisy depth": ("max_depth_error", "max_flow_error", "max_warp_error"),
    "flickering depth": ("max_depth_error", "max_flow_error", "max_warp_error"),
    "depth of another clip": ("max_flow_error", "max_depth_error", "max_warp_error"),
    "jumping camera": ("max_camera_break", "max_turn_break"),
}
"""Defect -> rules whose rejection names it."""
MIN_PATH = 0.05
"""Min length of the camera path, in median depths: depth seen by a camera that stays in place cannot be checked."""
MIN_MOTION = 0.3
"""Min mean difference between frames of a good clip, 0..255: clips in which nothing happens are no good clips."""


def good_clips(count: int, *, num_videos: int = 6, seed: int = 500_000) -> list[Clip]:
    """Good clips that move: worlds of all families, and clips of rendered videos."""
    from benchmarks.rendered_videos import render_video

    clips: list[Clip] = []
    for number in range(num_videos):
        clips += annotated_clips(render_video(seed + number, height=160, width=240))
    number = 0
    while len(clips) < count:
        clip = render_world(seed + number, family=FAMILIES[number % len(FAMILIES)], height=96, width=144)
        number += 1
        if np.abs(np.diff(clip.rgb.astype(np.int16), axis=0)).mean() >= MIN_MOTION:
            clips.append(replace(clip, annotator="benchmark"))
    return clips[:count]


def annotated_clips(video: RenderedVideo, *, num_frames: int = 17) -> list[Clip]:
    """The clips of a rendered video with its exact geometry; its small radial distortion stays in the frames."""
    from benchmarks.rendered_videos import clips_of, frames_of

    clips = []
    for clip in clips_of(video, num_frames):
        frames = frames_of(video, clip)
        depth, mask = video.truth(frames, video.intrinsics, clip.height, clip.width)
        clips.append(
            replace(
                clip,
                annotator="benchmark",
                depth=depth.astype(np.float32),
                intrinsics=video.intrinsics,
                camera_to_world=relative_to_first(video.camera_to_world[frames.start : frames.stop]),
                confidence=np.isfinite(depth).astype(np.float32),
                dynamic_mask=mask,
            )
        )
    return clips


def moves(clip: Clip) -> bool:
    """Whether the camera moves enough for its depth to be checked."""
    assert clip.camera_to_world is not None and clip.depth is not None
    steps = np.diff(clip.camera_to_world[:, :3, 3], axis=0)
    return bool(np.linalg.norm(steps, axis=1).sum() >= MIN_PATH * np.nanmedian(clip.depth))


def plant(defect: str, clip: Clip, other: Clip, rng: np.random.Generator) -> Clip:
    """A clip with a defect; `other` is a clip of another scene."""
    assert clip.depth is not None and clip.camera_to_world is not None and other.depth is not None
    height, width, frames = clip.height, clip.width, clip.num_frames
    rgb, depth = clip.rgb, clip.depth
    if defect == "dark":
        rgb = (rgb * rng.uniform(0.04, 0.12)).astype(np.uint8)
    elif defect == "bright":
        rgb = np.clip(rgb * rng.uniform(2.5, 4.0) + 90.0, 0, 255).astype(np.uint8)
    elif defect == "blurred":
        sigma = width * rng.uniform(0.016, 0.03)
        rgb = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in rgb])
    elif defect == "text":
        rgb = _with_text(rgb, rng)
    elif defect == "cut inside":
        cut = int(rng.integers(3, frames - 3))
        rgb = np.concatenate([rgb[:cut], other.resized(height, width).rgb[cut:]])
    elif defect == "frozen":
        start = int(rng.integers(1, frames // 2 - 1))
        rgb = np.concatenate([rgb[:start], np.repeat(rgb[start : start + 1], frames - start, axis=0)])
    elif defect == "shaking":
        return _shaken(clip, rng)
    elif defect == "duplicate":
        return _encoded_again(clip, rng)
    elif defect == "black bars":
        rgb = rgb.copy()
        bar = int(height * rng.uniform(0.05, 0.15))
        rgb[:, :bar] = rgb[:, height - bar :] = rng.integers(0, 8)
    elif defect == "inverted depth":
        low, high = np.nanmin(depth), np.nanmax(depth)
        depth = (low * high / depth).astype(np.float32)
    elif defect == "noisy depth":
        depth = (depth * np.exp(rng.normal(0, 0.3, depth.shape))).astype(np.float32)
    elif defect == "flickering depth":
        depth = (depth * np.exp(rng.normal(0, 0.2, (frames, 1, 1)))).astype(np.float32)
    elif defect == "depth of another clip":
        foreign = other.resized(height, width).depth
        assert foreign is not None
        depth = (foreign * (np.nanmedian(depth) / np.nanmedian(foreign))).astype(np.float32)
    elif defect == "jumping camera":
        poses = clip.camera_to_world.copy()
        direction = rng.normal(size=3)
        poses[frames // 2 :, :3, 3] += 0.3 * np.nanmedian(depth) * direction / np.linalg.norm(direction)
        return replace(clip, camera_to_world=poses)
    else:
        raise ValueError(f"defect: expected any of {', '.join(REASONS)}, got {defect!r}")
    return replace(clip, rgb=rgb, depth=depth)


def _with_text(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames with a line of text, as a subtitle or a title."""
    line = ["BREAKING NEWS", "Subscribe now", "to be continued", "SALE 50% OFF", "Chapter two"][int(rng.integers(5))]
    height, width = rgb.shape[1:3]
    zoom = 4  # drawn large and scaled down, as text in video is
    canvas = np.zeros((height * zoom, width * zoom), np.uint8)
    scale = width * zoom * rng.uniform(0.6, 0.9) / cv2.getTextSize(line, cv2.FONT_HERSHEY_DUPLEX, 1, 2)[0][0]
    position = (int(width * zoom * 0.05), int(height * zoom * rng.uniform(0.25, 0.9)))
    shadow = cv2.putText(canvas.copy(), line, position, cv2.FONT_HERSHEY_DUPLEX, scale, 255, int(10 * scale))
    text = cv2.putText(canvas, line, position, cv2.FONT_HERSHEY_DUPLEX, scale, 255, int(3.5 * scale))
    shadow, text = (
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255 for mask in (shadow, text)
    )
    return np.rint(rgb * (1 - shadow) + 255 * text * shadow).clip(0, 255).astype(np.uint8)


def _shaken(clip: Clip, rng: np.random.Generator) -> Clip:
    """A clip whose frames, depth and mask shift from frame to frame by up to 5 % of the width."""
    reach = max(2, int(clip.width * 0.05))
    shifts = rng.integers(-reach, reach + 1, (clip.num_frames, 2))

    def shifted(array: np.ndarray | None) -> np.ndarray:
        """An array [T, H, W, ...], shifted and repeated at the border."""
        assert array is not None
        pad = [(reach, reach), (reach, reach), *[(0, 0)] * (array.ndim - 3)]
        frames = [
            np.pad(frame, pad, mode="edge")[reach + y : reach + y + clip.height, reach + x : reach + x + clip.width]
            for frame, (y, x) in zip(array, shifts, strict=True)
        ]
        return np.ascontiguousarray(np.stack(frames))

    return replace(
        clip,
        rgb=shifted(clip.rgb),
        depth=shifted(clip.depth),
        confidence=shifted(clip.confidence),
        dynamic_mask=shifted(clip.dynamic_mask),
    )


def _encoded_again(clip: Clip, rng: np.random.Generator) -> Clip:
    """The same clip as another upload of it: scaled, compressed, a little brighter."""
    size = (int(clip.width * rng.uniform(0.7, 0.95)) // 2 * 2, int(clip.height * 0.9) // 2 * 2)
    gain, frames = rng.uniform(0.95, 1.08), []
    for frame in clip.rgb:
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        again = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        assert again is not None
        frames.append(cv2.resize(again, (clip.width, clip.height), interpolation=cv2.INTER_CUBIC))
    return replace(clip, rgb=np.clip(np.stack(frames) * gain, 0, 255).astype(np.uint8))


def planted_clips(good: Sequence[Clip], count: int, *, seed: int = 0) -> dict[str, list[Clip]]:
    """`count` clips per defect, planted into good clips with a moving camera."""
    rng = np.random.default_rng(seed)
    moving = [clip for clip in good if moves(clip)]
    planted: dict[str, list[Clip]] = {}
    for position, defect in enumerate(REASONS):
        planted[defect] = []
        for number in range(count):
            clip = moving[(position * 7 + number * 3) % len(moving)]
            other = moving[(position * 7 + number * 3 + 5) % len(moving)]
            defective = plant(defect, clip, other, rng)
            planted[defect].append(replace(defective, name=f"{defect.replace(' ', '-')}-{number:03d}-{clip.name}"))
    return planted


def write_clips(folder: Path, shard: str, clips: Sequence[Clip]) -> None:
    """Write annotated clips as one annotated shard."""
    rows, arrays = [], {}
    with tempfile.TemporaryDirectory() as parts:
        for clip in clips:
            arrays[clip.name] = Path(parts) / f"{clip.name}.safetensors"
            save_arrays(arrays[clip.name], clip.name, clip_arrays(clip))
            rows.append(clip_row(clip, shard))
        write_annotated(folder, shard, rows, arrays)


def evaluate(good: Sequence[Clip], planted: dict[str, list[Clip]], folder: Path) -> tuple[dict[str, int], list[str]]:
    """Defect -> number of clips that are caught for the right reason, and the names of rejected good clips.

    Duplicates are caught if the copy or its original is rejected as a duplicate of the other.
    """
    write_clips(folder / "annotated", "good", good)
    for defect, clips in planted.items():
        write_clips(folder / "annotated", f"planted-{defect.replace(' ', '-')}", clips)
    for path in sorted((folder / "annotated").glob("*.parquet")):
        score_shard(folder / "annotated", path.stem, folder / "scores")
    table = curate(folder / "scores", folder / "annotated", folder / "curated.parquet").table.set_index("name")
    caught = {}
    for defect, clips in planted.items():
        rules = [set(table.loc[clip.name, "rules"]) for clip in clips]
        if defect == "duplicate":
            originals = [clip.name.split("-", 2)[2] for clip in clips]
            rules = [found | set(table.loc[name, "rules"]) for found, name in zip(rules, originals, strict=True)]
        caught[defect] = sum(bool(found & set(REASONS[defect])) for found in rules)
    # A good clip that a planted duplicate replaces is not lost.
    rejected = [clip.name for clip in good if set(table.loc[clip.name, "rules"]) - {"duplicate"}]
    return caught, rejected


def baseline(folder: Path, checkout: Path, planted: dict[str, list[Clip]], good: Sequence[Clip]) -> dict[str, int]:
    """Clips that the former code rejects at all, per defect and for the good clips, run in its own process."""
    import pandas as pd

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from fourdnex.curation import curate, score_shard\n"
        "root = Path(sys.argv[2])\n"
        "for path in sorted((root / 'annotated').glob('*.parquet')):\n"
        "    score_shard(root / 'annotated', path.stem, root / 'former_scores')\n"
        "curate(root / 'former_scores', root / 'annotated', root / 'former.parquet')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(checkout), str(folder)], check=True, cwd=checkout)
    table = pd.read_parquet(folder / "former.parquet").set_index("name")
    counts = {defect: sum(not table.loc[clip.name, "accepted"] for clip in clips) for defect, clips in planted.items()}
    return counts | {"good": sum(not table.loc[clip.name, "accepted"] for clip in good)}


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--good", type=int, default=200, help="good clips (default: 200)")
    parser.add_argument("--planted", type=int, default=20, help="clips per defect (default: 20)")
    parser.add_argument("--videos", type=int, default=6, help="rendered videos among the good clips (default: 6)")
    parser.add_argument("--seed", type=int, default=500_000, help="first seed of the good clips (default: 500000)")
    parser.add_argument("--baseline", type=Path, help="checkout of commit e2694fb, to run its rules beside")
    parser.add_argument("--output", type=Path, help="keep the shards, scores and the curated table in this folder")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    good = good_clips(arguments.good, num_videos=arguments.videos, seed=arguments.seed)
    planted = planted_clips(good, arguments.planted)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        caught, rejected = evaluate(good, planted, folder)
        former = baseline(folder, arguments.baseline, planted, good) if arguments.baseline else {}
    rows: list[tuple[object, ...]] = []
    for defect, clips in planted.items():
        rows.append((defect, former.get(defect), caught[defect], len(clips), f"{caught[defect] / len(clips):.0%}"))
    total, found = sum(map(len, planted.values())), sum(caught.values())
    before = sum(former[defect] for defect in planted) if former else None
    rows.append(("all defects", before, found, total, f"{found / total:.1%}"))
    rows.append(
        ("good clips rejected", former.get("good"), len(rejected), len(good), f"{len(rejected) / len(good):.1%}")
    )
    print_table(
        "Planted defects",
        ("defect", "e2694fb: rejected for any reason", "caught for the right reason", "clips", "share"),
        rows,
        notes=["Bars: 95 % caught for the right reason, at most 5 % of the good clips rejected."],
        packages=("numpy", "opencv-python-headless", "rapidocr"),
    )


if __name__ == "__main__":
    main()
