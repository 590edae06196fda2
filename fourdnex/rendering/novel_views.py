"""Novel-view video: points of the frame, static points of other frames where it is occluded, then inpainting."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.io.files import atomic_path
from fourdnex.io.lossless_video import write_lossless
from fourdnex.motion.segmentation import StaticPoints, static_points
from fourdnex.rendering.animation import write_animation
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.inpainting import Inpainter
from fourdnex.rendering.splat import MAX_FOOTPRINT, paint, project_columns, splat, view_matrix
from fourdnex.rendering.surface import Surface, scaled_intrinsics
from fourdnex.scene import Scene4D
from fourdnex.subsampling import subsample_scene, subsampling_stride

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 50_000
"""Maximum pixels per frame for the static points of other frames; scenes are subsampled to it. These points only fill
disocclusions and may be coarser."""
_OCCLUSION = 0.97  # a point of another frame occludes one of this frame below this fraction of its depth


@dataclass(frozen=True, eq=False)
class NovelView:
    """One view, and the origin of its pixels."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in the view's frame; infinite where no frame has a point
    other_frames: np.ndarray  # [H, W] bool: pixels from other frames
    inpainted: np.ndarray  # [H, W] bool: pixels from no frame; background color without an inpainter


def novel_views(
    scene: Scene4D,
    path: CameraPath,
    *,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    fill: bool = True,
    inpaint: Inpainter | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    device: str = "cpu",
) -> Iterator[NovelView]:
    """Render a scene along a camera path, lazily.

    Args:
        zoom: image size relative to the scene's frames.
        min_confidence: minimum confidence of rendered pixels.
        fill: fill disocclusions with static points of other frames.
        inpaint: fills the remaining holes (`OpenCVInpainter()`, ...); None leaves them in the `background` color.
        device: torch device.

    Raises:
        ValueError: `zoom` is not positive.
    """
    if not (np.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom: expected a positive number, got {zoom}")
    subsampled = subsample_scene(scene, subsampling_stride(scene.height, scene.width, max_pixels=MAX_PIXELS))
    static = static_points(subsampled) if fill and scene.num_frames > 1 else None
    surface, occluded, current = None, None, -1
    for view, t in enumerate(path.frames(scene.num_frames).tolist()):
        if surface is None or t != current:
            surface, current = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device), t
            occluded = _OccludedPoints(static, scene, t, device) if static is not None else None
        pose, intrinsics = path.camera_to_world[view], path.intrinsics[view]
        image, depth = surface.render(pose, intrinsics, background)
        other_frames = depth.isinf() & False
        if occluded is not None:
            image, depth, other_frames = occluded.composite(image, depth, pose, scaled_intrinsics(intrinsics, zoom))
        yield _inpaint_holes(image.cpu().numpy(), depth.cpu().numpy(), other_frames.cpu().numpy(), inpaint)


@dataclass(frozen=True)
class VideoSummary:
    """A written video, and the origin of its pixels."""

    num_views: int
    mask: Path
    other_frames_share: float  # fraction of all pixels from other frames
    inpainted_share: float  # fraction of all pixels from no frame


def mask_name(path: str | os.PathLike[str]) -> Path:
    """Path of the mask of a video's inpainted pixels: NAME.mask.mkv for NAME.mp4."""
    return Path(path).with_suffix(".mask.mkv")


def write_novel_views(path: str | os.PathLike[str], views: Iterable[NovelView], *, fps: float) -> VideoSummary:
    """Write a novel-view video (.mkv, .mp4 or .gif) and the lossless mask of its inpainted pixels (`mask_name`).

    The mask has the size and number of frames of the video: 255 where no frame of the scene has a point, else 0.

    Raises:
        ValueError: unsupported suffix, no views, or a frame rate that is not positive.
        OSError: the files cannot be written.
    """
    masks, other_frames = [], []

    def images() -> Iterator[np.ndarray]:
        """Images of the views, with their masks collected."""
        for view in views:
            masks.append(view.inpainted.astype(np.uint8) * 255)
            other_frames.append(float(view.other_frames.mean()))
            yield view.image

    count = write_animation(path, images(), fps=fps)
    with atomic_path(mask_name(path)) as temporary:
        write_lossless(temporary, np.stack(masks), fps=fps)
    return VideoSummary(count, mask_name(path), float(np.mean(other_frames)), float(np.mean(masks)) / 255)


class _OccludedPoints:
    """Static points that frame `t` does not observe."""

    def __init__(self, points: StaticPoints, scene: Scene4D, t: int, device: str) -> None:
        import torch

        unobserved = points.unobserved_by(scene, t)
        self._x, self._y, self._z = torch.from_numpy(points.xyz[unobserved].T.copy()).to(device)
        self._rgb = torch.from_numpy(points.rgb[unobserved]).to(device)
        self._size = torch.from_numpy(points.size[unobserved]).to(device)

    def composite(
        self, image: "torch.Tensor", depth: "torch.Tensor", pose: np.ndarray, intrinsics: np.ndarray
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """Image and depth with these points where the view has a hole or a farther point, and their mask [H, W]."""
        x, y, z = project_columns(self._x, self._y, self._z, view_matrix(intrinsics, pose))
        # Enlarged by a quarter: the points come from different grids, whose gaps add up.
        size = (self._size * float(intrinsics[0, 0]) / z * 1.25).clamp_(1, MAX_FOOTPRINT)
        owner, points_depth = splat(x, y, z, size, size, height=depth.shape[0], width=depth.shape[1])
        mask = points_depth < depth * _OCCLUSION
        mask |= depth.isinf() & points_depth.isfinite()
        colors = paint(owner, self._rgb, (0, 0, 0))
        return colors.where(mask[..., None], image), points_depth.where(mask, depth), mask


def _inpaint_holes(
    image: np.ndarray, depth: np.ndarray, other_frames: np.ndarray, inpaint: Inpainter | None
) -> NovelView:
    """The view with its remaining holes filled."""
    holes = np.isinf(depth)
    if inpaint is not None and holes.any() and not holes.all():
        image = np.where(holes[..., None], inpaint(image, depth), image)
    return NovelView(image, depth, other_frames, holes)
