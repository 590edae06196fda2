"""Rendered test videos with exact geometry: photographs as textures, hand-held cameras, radial distortion, noise.

    python -m benchmarks.rendered_videos --output /tmp/videos --videos 4

writes a source data set for `fourdnex annotate` and one contact sheet per video. `render_video` gives the same video
for a seed on every machine with the same NumPy; `RenderedVideo.truth` gives the exact depth for any pinhole camera,
such as that of an annotated clip.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.photo_scenes import MOTIONS, PLACES, camera_path, photo_world
from benchmarks.photo_worlds import PhotoWorld
from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard

_DISTANCE = {"room": 3.6, "courtyard": 5.0, "street": 6.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedVideo:
    """A video and its exact geometry; the world frame is that of the first camera."""

    name: str
    rgb: np.ndarray  # [T, H, W, 3] uint8, distorted by k1
    depth: np.ndarray  # [T, H, W] float32 in meters, of the pixels of `rgb`; NaN in the sky
    intrinsics: np.ndarray  # [3, 3] float32, of the undistorted pinhole; pixel centers at integers
    k1: float
    """Radial distortion of COLMAP's SIMPLE_RADIAL: distorted = undistorted * (1 + k1 * r^2), in focal lengths."""
    camera_to_world: np.ndarray  # [T, 4, 4] float32
    dynamic_mask: np.ndarray  # [T, H, W] bool
    fps: float
    motion: str
    place: str
    world: PhotoWorld
    first_pose: np.ndarray  # [4, 4] float64, from the first camera to the frame of `world`

    def truth(
        self, frames: Sequence[int] | range, intrinsics: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exact depth [T, H, W] and dynamic mask seen by a pinhole camera without distortion at the poses of `frames`.

        Args:
            frames: frame numbers of the video.
            intrinsics: [3, 3] in pixels of the result.
            height, width: size of the result.
        """
        u = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
        v = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
        x, y = np.meshgrid(u, v)
        ray = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)
        views = [
            self.world.cast(ray, self.first_pose @ self.camera_to_world[frame].astype(np.float64), frame / self.fps)
            for frame in frames
        ]
        return np.stack([view[0] for view in views]), np.stack([view[1] for view in views])


def render_video(
    seed: int,
    *,
    num_frames: int = 51,
    height: int = 360,
    width: int = 540,
    moving: bool = False,
    shake: bool = True,
    motion: str | None = None,
    place: str | None = None,
    k1: float | None = None,
    focal: float | None = None,
    fps: float = 24.0,
    noise: float = 2.0,
) -> RenderedVideo:
    """Render video `seed`.

    Args:
        seed: of world, camera path and noise.
        num_frames, height, width: size of the video.
        moving: two objects move.
        shake: the camera shakes as in a hand.
        motion: one of `photo_scenes.MOTIONS`. Default: "sideways", "orbit" or "forward" by seed.
        place: one of `photo_scenes.PLACES`. Default: by seed.
        k1: radial distortion. Default: between -.12 and .04 by seed.
        focal: focal length in widths of the image. Default: between .7 and 1.15 by seed.
        fps: frames per second.
        noise: standard deviation of the noise, in 0..255.

    Raises:
        ValueError: a negative seed, a size that is not positive, or an unknown motion or place.
    """
    for field, value, low in (("seed", seed, 0), ("num_frames", num_frames, 1), ("height", height, 1)):
        if value < low:
            raise ValueError(f"{field}: expected at least {low}, got {value}")
    for field, name, names in (("motion", motion, MOTIONS), ("place", place, PLACES)):
        if name is not None and name not in names:
            raise ValueError(f"{field}: expected one of {', '.join(names)}, got {name!r}")
    rng = np.random.default_rng([20261, seed])
    drawn = {
        "place": PLACES[int(rng.integers(len(PLACES)))],
        "motion": MOTIONS[int(rng.integers(3))],
    }
    drawn_focal, drawn_k1 = float(rng.uniform(0.7, 1.15)), float(rng.uniform(-0.12, 0.04))
    place, motion = place or drawn["place"], motion or drawn["motion"]
    pixels = (drawn_focal if focal is None else focal) * width
    k1 = drawn_k1 if k1 is None else k1
    world = photo_world(rng, place, moving=moving)
    path_rng, noise_rng = rng.spawn(2)
    pose = camera_path(path_rng, motion, num_frames=num_frames, fps=fps, distance=_DISTANCE[place], shake=shake)
    ray = _distorted_rays(height, width, pixels, k1)
    rgb = np.empty((num_frames, height, width, 3), np.uint8)
    depth, mask = np.empty(rgb.shape[:3], np.float32), np.empty(rgb.shape[:3], bool)
    for frame in range(num_frames):
        depth[frame], mask[frame], color = world.cast(ray, pose[frame], frame / fps, focal=pixels)
        blurred = cv2.GaussianBlur(color, (0, 0), 0.55)  # of the lens
        noisy = blurred + noise * noise_rng.standard_normal(color.shape, dtype=np.float32)
        rgb[frame] = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    camera_to_world = (np.linalg.inv(pose[0]) @ pose).astype(np.float32)
    camera_to_world[0] = np.eye(4, dtype=np.float32)
    center = ((width - 1) / 2, (height - 1) / 2)
    return RenderedVideo(
        name=f"rendered-{seed:04d}-{place}-{motion}" + ("-moving" if moving else ""),
        rgb=rgb,
        depth=depth,
        intrinsics=np.array([[pixels, 0, center[0]], [0, pixels, center[1]], [0, 0, 1]], np.float32),
        k1=k1,
        camera_to_world=camera_to_world,
        dynamic_mask=mask,
        fps=fps,
        motion=motion,
        place=place,
        world=world,
        first_pose=pose[0],
    )


def _distorted_rays(height: int, width: int, focal: float, k1: float) -> np.ndarray:
    """Rays [H, W, 3] float32 with z = 1 of the pixels of a SIMPLE_RADIAL camera.

    Raises:
        ValueError: the distortion folds the image: no ray belongs to its corners.
    """
    x, y = np.meshgrid((np.arange(width) - (width - 1) / 2) / focal, (np.arange(height) - (height - 1) / 2) / focal)
    distorted = np.hypot(x, y)
    radius = distorted.copy()
    for _ in range(30):  # Newton's method for radius * (1 + k1 * radius^2) = distorted
        slope = 1 + 3 * k1 * radius**2
        radius -= (radius * (1 + k1 * radius**2) - distorted) / slope
    if not (np.abs(radius * (1 + k1 * radius**2) - distorted).max() < 1e-9 and (slope > 0).all()):
        raise ValueError(f"k1: expected a distortion that keeps the corners of the image, got {k1}")
    scale = np.divide(radius, distorted, out=np.ones_like(radius), where=distorted > 0)
    return np.stack([x * scale, y * scale, np.ones_like(x)], axis=-1).astype(np.float32)


def clips_of(video: RenderedVideo, num_frames: int = 17) -> list[Clip]:
    """The source clips of a video (RGB only): consecutive windows of `num_frames` frames."""
    digest = hashlib.sha256(video.rgb.tobytes()).hexdigest()
    return [
        Clip(
            name=f"{video.name}-{start:05d}",
            rgb=video.rgb[start : start + num_frames],
            fps=video.fps,
            caption=f"A {video.place} with photographs on its walls.",
            subset="rendered",
            source=f"benchmarks.rendered_videos {video.name}",
            license="Apache-2.0; photographs in scikit-image: public domain or CC0",
            video=video.name,
            start=start / video.fps,
            source_sha256=digest,
        )
        for start in range(0, len(video.rgb) - num_frames + 1, num_frames)
    ]


def frames_of(video: RenderedVideo, clip: Clip) -> range:
    """Frame numbers in the video of a clip (annotated or not) that `clips_of` cut from it."""
    start = round(clip.start * video.fps)
    return range(start, start + clip.num_frames)


def write_rendered_dataset(
    folder: str | os.PathLike[str], videos: Sequence[RenderedVideo], *, num_frames: int = 17, videos_per_shard: int = 4
) -> None:
    """Write the clips of videos as a source data set, the input of `fourdnex annotate`."""
    rows = []
    for index in range(0, len(videos), videos_per_shard):
        clips = [clip for video in videos[index : index + videos_per_shard] for clip in clips_of(video, num_frames)]
        rows += write_shard(folder, f"rendered-{index // videos_per_shard:04d}", clips)
    write_manifest(folder, rows)


def contact_sheet(video: RenderedVideo, frames: int = 4) -> Image.Image:
    """RGB (above), inverse depth and dynamic mask (below) of some frames."""
    chosen = np.linspace(0, len(video.rgb) - 1, frames).astype(int)
    inverse = np.nan_to_num(np.clip(1.2 / video.depth[chosen], 0, 1))
    below = np.repeat((inverse * 255).astype(np.uint8)[..., None], 3, axis=-1)
    below[video.dynamic_mask[chosen]] //= np.array([1, 3, 3], np.uint8)
    return Image.fromarray(np.concatenate([np.concatenate(list(video.rgb[chosen]), 1), np.concatenate(list(below), 1)]))


def main() -> None:
    """Write a data set and contact sheets."""
    parser = argument_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--videos", type=int, default=4, help="number of videos; every fourth has moving objects")
    arguments = parser.parse_args()
    videos = [render_video(seed, moving=seed % 4 == 3) for seed in range(arguments.videos)]
    write_rendered_dataset(arguments.output, videos)
    for video in videos:
        contact_sheet(video).save(arguments.output / f"{video.name}.png")
    print_table(
        "Rendered videos",
        ("video", "focal length", "k1", "path m", "median depth m", "moving %"),
        [
            (
                video.name,
                f"{video.intrinsics[0, 0]:.0f}",
                f"{video.k1:.3f}",
                f"{np.linalg.norm(np.diff(video.camera_to_world[:, :3, 3], axis=0), axis=1).sum():.2f}",
                f"{np.nanmedian(video.depth):.2f}",
                f"{100 * video.dynamic_mask.mean():.1f}",
            )
            for video in videos
        ],
    )


if __name__ == "__main__":
    main()
