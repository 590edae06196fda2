"""Clip: one annotated video, the unit of training data."""

import re
from dataclasses import dataclass, replace

import numpy as np

from fourdnex.geometry.cameras import invert_pose, relative_to_first, transform_points, unproject
from fourdnex.io.resizing import center_crop, resize_and_crop

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One video with what is known about it. World = the frame of its first camera (OpenCV axes).

    Raises:
        ValueError: a field has the wrong shape, type or range; the message names it.
    """

    name: str
    """Unique in its data set; letters, digits, dot, underscore, hyphen."""
    rgb: np.ndarray  # [T, H, W, 3] uint8
    fps: float = 24.0
    caption: str = ""
    subset: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    license: str = ""
    annotator: str = ""
    """"exact", "sfm", ...; empty: not annotated."""
    depth: np.ndarray | None = None  # [T, H, W] float32, z in the camera's frame; NaN or <= 0 is invalid
    intrinsics: np.ndarray | None = None  # [3, 3] float32, pixels
    camera_to_world: np.ndarray | None = None  # [T, 4, 4] float32, the first one is the identity
    confidence: np.ndarray | None = None  # [T, H, W] float32 in [0, 1]
    dynamic_mask: np.ndarray | None = None  # [T, H, W] bool
    imported_pointmaps: np.ndarray | None = None
    """[T, H, W, 3] float32, world frame: only where point maps come as such and depth and intrinsics do not say all."""

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
        return self.rgb.shape[0]

    @property
    def height(self) -> int:
        return self.rgb.shape[1]

    @property
    def width(self) -> int:
        return self.rgb.shape[2]

    @property
    def pixel_aspect(self) -> float:
        """fx / fy: 1 for square pixels, which those of a clip without intrinsics are taken to be."""
        return 1.0 if self.intrinsics is None else float(self.intrinsics[0, 0]) / float(self.intrinsics[1, 1])

    @property
    def pointmaps(self) -> np.ndarray | None:
        """[T, H, W, 3] float32 in the first camera's frame, NaN where depth is invalid; None if not annotated."""
        if self.imported_pointmaps is not None:
            return self.imported_pointmaps
        if self.depth is None or self.intrinsics is None or self.camera_to_world is None:
            return None
        depth = np.where(self.depth > 0, self.depth, np.float32(np.nan))
        return unproject(depth, self.intrinsics, self.camera_to_world)

    def annotated_pointmaps(self) -> np.ndarray:
        """`pointmaps` of a clip that must have them.

        Raises:
            ValueError: the clip is not annotated; the message names it.
        """
        if (points := self.pointmaps) is None:
            raise ValueError(f"{self.name}: expected depth, intrinsics and cameras, got a clip that is not annotated")
        return points

    def resized(self, height: int, width: int, *, ratio: tuple[float, float] | None = None) -> "Clip":
        """Scale the middle of the ratio `ratio` to height x width, cut the rest off evenly; intrinsics follow.

        `ratio` is (height, width), in any unit; None is the size itself: scaled to cover it. Where it is not that of
        the size, the scales of x and y differ, and with them fx and fy.

        RGB is filtered (bicubic, with anti-aliasing); depth, confidence, mask and points take the nearest pixel, so
        that no value is mixed across an edge.
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
            # Pixel centers are integers: the border of the image lies at -0.5.
            intrinsics[0, 2] = (self.intrinsics[0, 2] + 0.5 - crop.left) * crop.scale_x - 0.5
            intrinsics[1, 2] = (self.intrinsics[1, 2] + 0.5 - crop.top) * crop.scale_y - 0.5
            intrinsics = intrinsics.astype(np.float32)

        def nearest(array: np.ndarray | None) -> np.ndarray | None:
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
        """Frames start .. start + num_frames - 1 as a clip of their own, world = the first camera of the window."""
        if start < 0 or num_frames < 1 or start + num_frames > self.num_frames:
            raise ValueError(
                f"window: expected to lie within the {self.num_frames} frames, got {start}..{start + num_frames - 1}"
            )
        cut = slice(start, start + num_frames)

        def part(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[cut]

        poses, points = part(self.camera_to_world), part(self.imported_pointmaps)
        if poses is not None:
            if points is not None:
                points = transform_points(points, invert_pose(poses[0]))
            poses = relative_to_first(poses)
        return replace(
            self,
            rgb=self.rgb[cut],
            depth=part(self.depth),
            camera_to_world=poses,
            confidence=part(self.confidence),
            dynamic_mask=part(self.dynamic_mask),
            imported_pointmaps=points,
        )

    def _check(self, field: str, shape: tuple[int, ...], dtype: str) -> None:
        array = getattr(self, field)
        if array is not None and (array.shape != shape or array.dtype != dtype):
            raise ValueError(f"{field}: expected {shape} {dtype}, got {array.shape} {array.dtype}")


def is_clip_name(name: object) -> bool:
    """Whether a clip may have this name: it becomes the name of files."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in (".", "..")


def _check_rigid(camera_to_world: np.ndarray) -> None:
    rotation = camera_to_world[:, :3, :3].astype(np.float64)
    error = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max()
    if not (np.isfinite(camera_to_world).all() and error < 1e-3 and (np.linalg.det(rotation) > 0).all()):
        raise ValueError(f"camera_to_world: expected rigid transforms, got rotations off by {error:.2g}")
    if np.abs(camera_to_world[0] - np.eye(4)).max() > 1e-4:
        raise ValueError(
            "camera_to_world: expected the identity for the first camera (see geometry.relative_to_first), "
            f"got {camera_to_world[0].tolist()}"
        )


def _resize_rgb(rgb: np.ndarray, height: int, width: int, ratio: tuple[float, float]) -> np.ndarray:
    out = np.empty((len(rgb), height, width, 3), np.uint8)
    for frame, image in zip(out, rgb, strict=True):
        frame[:] = resize_and_crop(image, height, width, ratio=ratio)
    return out
