"""Clip: a video with its annotation, the unit of training data."""

import re
from dataclasses import dataclass, replace

import numpy as np

from fourdnex.geometry.cameras import invert_pose, relative_to_first, transform_points, unproject
from fourdnex.io.resizing import center_crop, resize_and_crop

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A video with metadata and, once annotated, depth and cameras. World frame: the first camera (OpenCV axes).

    Raises:
        ValueError: a field has a wrong shape, type or range; the message names it.
    """

    name: str
    """Unique in its data set; letters, digits, '.', '_' and '-'."""
    rgb: np.ndarray  # [T, H, W, 3] uint8
    fps: float = 24.0
    caption: str = ""
    subset: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    license: str = ""
    video: str = ""
    """Source video, unique in the data set: clips of one video share a camera. Empty for a clip of its own."""
    shot: int = 0
    """Number of the shot in its video; a cut separates two shots."""
    start: float = 0.0
    """Time of the first frame in its video, seconds."""
    source_sha256: str = ""
    """Digest of the source file; empty if it is unknown."""
    annotator: str = ""
    """Name of the annotator, such as "exact" or "sfm"; empty for a clip without annotation."""
    depth: np.ndarray | None = None  # [T, H, W] float32, z in the camera's frame; invalid where NaN or <= 0
    intrinsics: np.ndarray | None = None  # [3, 3] float32, pixels
    camera_to_world: np.ndarray | None = None  # [T, 4, 4] float32, the first is the identity
    confidence: np.ndarray | None = None  # [T, H, W] float32 in [0, 1]
    dynamic_mask: np.ndarray | None = None  # [T, H, W] bool
    imported_pointmaps: np.ndarray | None = None
    """[T, H, W, 3] float32, world frame: point maps of the source data set. Only set where they cannot be derived from
    depth, intrinsics and camera_to_world; otherwise see `pointmaps`."""

    def __post_init__(self) -> None:
        if not is_clip_name(self.name):
            raise ValueError(f"name: expected letters, digits, '.', '_' or '-', got {self.name!r}")
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or 0 in self.rgb.shape or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb: expected [T, H, W, 3] uint8, got {self.rgb.shape} {self.rgb.dtype}")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected a positive number, got {self.fps}")
        frames = self.rgb.shape[:3]
        self._check("depth", frames, "float32")
        self._check("intrinsics", (3, 3), "float32")
        self._check("camera_to_world", (frames[0], 4, 4), "float32")
        self._check("confidence", frames, "float32")
        self._check("dynamic_mask", frames, "bool")
        self._check("imported_pointmaps", (*frames, 3), "float32")
        if self.intrinsics is not None and not (
            np.isfinite(self.intrinsics).all() and self.intrinsics[0, 0] > 0 and self.intrinsics[1, 1] > 0
        ):
            raise ValueError(f"intrinsics: expected positive focal lengths, got {self.intrinsics.tolist()}")
        if self.camera_to_world is not None:
            _check_rigid(self.camera_to_world)
        if self.confidence is not None and not (self.confidence.min() >= 0 and self.confidence.max() <= 1):
            raise ValueError("confidence: expected values in [0, 1]")

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return self.rgb.shape[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.rgb.shape[1]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.rgb.shape[2]

    @property
    def pixel_aspect(self) -> float:
        """fx / fy: 1 for square pixels, which are assumed for a clip without intrinsics."""
        return 1.0 if self.intrinsics is None else float(self.intrinsics[0, 0]) / float(self.intrinsics[1, 1])

    @property
    def pointmaps(self) -> np.ndarray | None:
        """Point maps [T, H, W, 3] float32, world frame, NaN where depth is invalid; None without annotation."""
        if self.imported_pointmaps is not None:
            return self.imported_pointmaps
        if self.depth is None or self.intrinsics is None or self.camera_to_world is None:
            return None
        depth = np.where(self.depth > 0, self.depth, np.float32(np.nan))
        return unproject(depth, self.intrinsics, self.camera_to_world)

    def annotated_pointmaps(self) -> np.ndarray:
        """`pointmaps`, for callers that require an annotated clip.

        Raises:
            ValueError: the clip is not annotated; the message names it.
        """
        if (points := self.pointmaps) is None:
            raise ValueError(f"{self.name}: expected depth, intrinsics and cameras, got a clip that is not annotated")
        return points

    def resized(self, height: int, width: int, *, ratio: tuple[float, float] | None = None) -> "Clip":
        """The center crop of the clip at another size; intrinsics are adjusted.

        RGB is resampled bicubically with anti-aliasing. Depth, confidence, mask and point maps take the nearest pixel,
        so that values are not mixed across edges.

        Args:
            height, width: size of the result in pixels.
            ratio: (height, width) of the crop in any unit, see `fourdnex.io.resizing.center_crop`. Default: that of the
                size. Where it differs, the scales of x and y differ, and so do fx and fy.
        """
        if height < 1 or width < 1:
            raise ValueError(f"height and width: expected at least 1, got {height} and {width}")
        ratio = ratio or (height, width)
        if (height, width) == (self.height, self.width) and ratio[0] * width == ratio[1] * height:
            return self
        crop = center_crop((self.height, self.width), height, width, ratio=ratio)
        rows = np.clip(((np.arange(height) + 0.5) / crop.scale_y + crop.top).astype(int), 0, self.height - 1)
        columns = np.clip(((np.arange(width) + 0.5) / crop.scale_x + crop.left).astype(int), 0, self.width - 1)
        intrinsics = None
        if self.intrinsics is not None:
            intrinsics = self.intrinsics.astype(np.float64)
            intrinsics[0] *= crop.scale_x
            intrinsics[1] *= crop.scale_y
            # Pixel centers are at integers, so the border of the image is at -0.5.
            intrinsics[0, 2] = (self.intrinsics[0, 2] + 0.5 - crop.left) * crop.scale_x - 0.5
            intrinsics[1, 2] = (self.intrinsics[1, 2] + 0.5 - crop.top) * crop.scale_y - 0.5
            intrinsics = intrinsics.astype(np.float32)

        def nearest(array: np.ndarray | None) -> np.ndarray | None:
            """Nearest-neighbor resampling."""
            return None if array is None else array[:, rows[:, None], columns[None, :]]

        return replace(
            self,
            rgb=_resize_rgb(self.rgb, height, width, ratio),
            intrinsics=intrinsics,
            depth=nearest(self.depth),
            confidence=nearest(self.confidence),
            dynamic_mask=nearest(self.dynamic_mask),
            imported_pointmaps=nearest(self.imported_pointmaps),
        )

    def window(self, start: int, num_frames: int) -> "Clip":
        """Frames start to start + num_frames - 1 as a clip; its world frame is the first camera of the window."""
        if start < 0 or num_frames < 1 or start + num_frames > self.num_frames:
            last = start + num_frames - 1
            raise ValueError(f"window: expected a range within {self.num_frames} frames, got {start}..{last}")
        frames = slice(start, start + num_frames)

        def part(array: np.ndarray | None) -> np.ndarray | None:
            """The frames of the window."""
            return None if array is None else array[frames]

        poses, points = part(self.camera_to_world), part(self.imported_pointmaps)
        if poses is not None:
            if points is not None:
                points = transform_points(points, invert_pose(poses[0]))
            poses = relative_to_first(poses)
        return replace(
            self,
            rgb=self.rgb[frames],
            depth=part(self.depth),
            camera_to_world=poses,
            confidence=part(self.confidence),
            dynamic_mask=part(self.dynamic_mask),
            imported_pointmaps=points,
        )

    def _check(self, field: str, shape: tuple[int, ...], dtype: str) -> None:
        """Raise ValueError if a field is set and has another shape or type."""
        array = getattr(self, field)
        if array is not None and (array.shape != shape or array.dtype != dtype):
            raise ValueError(f"{field}: expected {shape} {dtype}, got {array.shape} {array.dtype}")


def is_clip_name(name: object) -> bool:
    """Whether a clip may have this name, which is also used in file names."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in (".", "..")


def _check_rigid(camera_to_world: np.ndarray) -> None:
    """Raise ValueError unless the poses are rigid transforms and the first is the identity."""
    rotation = camera_to_world[:, :3, :3].astype(np.float64)
    error = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max()
    if not (np.isfinite(camera_to_world).all() and error < 1e-3 and (np.linalg.det(rotation) > 0).all()):
        raise ValueError(f"camera_to_world: expected rigid transforms, got rotations with an error of {error:.2g}")
    if np.abs(camera_to_world[0] - np.eye(4)).max() > 1e-4:
        raise ValueError(
            "camera_to_world: expected the identity for the first camera (see geometry.relative_to_first), "
            f"got {camera_to_world[0].tolist()}"
        )


def _resize_rgb(rgb: np.ndarray, height: int, width: int, ratio: tuple[float, float]) -> np.ndarray:
    """The center crop of every frame at another size."""
    out = np.empty((len(rgb), height, width, 3), np.uint8)
    for frame, image in zip(out, rgb, strict=True):
        frame[:] = resize_and_crop(image, height, width, ratio=ratio)
    return out
