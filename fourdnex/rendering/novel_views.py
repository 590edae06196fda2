"""Novel-view video: the frame's own points, then standing points of other frames, then invention."""

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
"""Of a frame, of which points for other frames are gathered: what is borrowed fills holes, and may be coarser."""
_IN_FRONT = 0.97  # a point of another frame hides one of this frame only when it is clearly nearer


@dataclass(frozen=True, eq=False)
class NovelView:
    """One view, and where its pixels come from."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in the view's frame; infinite where nothing is known
    borrowed: np.ndarray  # [H, W] bool: from other frames
    invented: np.ndarray  # [H, W] bool: from no frame; by the inpainter, or background where there is none


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
    """Render a scene along a path, one view after another.

    Args:
        zoom: size of the images, in sizes of the scene's frames.
        min_confidence: pixels below are left out.
        fill: take what the frame of a view does not see from other frames, where it stands still.
        inpaint: invents the rest (`OpenCVInpainter()`, ...); None leaves `background`.
        device: of torch.

    Raises:
        ValueError: `zoom` is not positive.
    """
    if not (np.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom: expected a positive number, got {zoom}")
    fewer = subsample_scene(scene, subsampling_stride(scene.height, scene.width, max_pixels=MAX_PIXELS))
    standing = static_points(fewer) if fill and scene.num_frames > 1 else None
    surface, others, shown = None, None, -1
    for view, t in enumerate(path.frames(scene.num_frames).tolist()):
        if surface is None or t != shown:
            surface, shown = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device), t
            others = _Others(standing, scene, t, device) if standing is not None else None
        pose, lens = path.camera_to_world[view], path.intrinsics[view]
        image, depth = surface.look(pose, lens, background)
        borrowed = depth.isinf() & False
        if others is not None:
            image, depth, borrowed = others.lay_under(image, depth, pose, scaled_intrinsics(lens, zoom))
        yield _finished(image.cpu().numpy(), depth.cpu().numpy(), borrowed.cpu().numpy(), inpaint)


@dataclass(frozen=True)
class Written:
    """A video on disk, and where its pixels come from."""

    num_views: int
    mask: Path
    borrowed: float  # share of all pixels: from other frames
    invented: float  # share of all pixels: from no frame


def mask_name(path: str | os.PathLike[str]) -> Path:
    """Where the mask of the invented pixels of a video lies: NAME.mask.mkv beside NAME.mp4."""
    return Path(path).with_suffix(".mask.mkv")


def write_novel_views(path: str | os.PathLike[str], views: Iterable[NovelView], *, fps: float) -> Written:
    """Write a novel-view video (.mkv, .mp4 or .gif), and beside it the lossless mask of its invented pixels.

    The mask has the size and the frames of the video: 255 where a pixel comes from no frame of the scene, else 0.

    Raises:
        ValueError: another suffix, no views, or a frame rate that is not positive.
        OSError: no room, no permission.
    """
    masks, borrowed = [], []

    def images() -> Iterator[np.ndarray]:
        for view in views:
            masks.append(view.invented.astype(np.uint8) * 255)
            borrowed.append(float(view.borrowed.mean()))
            yield view.image

    count = write_animation(path, images(), fps=fps)
    with atomic_path(mask_name(path)) as temporary:
        write_lossless(temporary, np.stack(masks), fps=fps)
    return Written(count, mask_name(path), float(np.mean(borrowed)), float(np.mean(masks)) / 255)


class _Others:
    """Standing points that frame `t` itself does not see."""

    def __init__(self, points: StaticPoints, scene: Scene4D, t: int, device: str) -> None:
        import torch

        unknown = points.unobserved_by(scene, t)
        self._x, self._y, self._z = torch.from_numpy(points.xyz[unknown].T.copy()).to(device)
        self._rgb = torch.from_numpy(points.rgb[unknown]).to(device)
        self._size = torch.from_numpy(points.size[unknown]).to(device)

    def lay_under(
        self, image: "torch.Tensor", depth: "torch.Tensor", pose: np.ndarray, lens: np.ndarray
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """The view with these points where it has none, or clearly farther ones; and which pixels are theirs."""
        x, y, z = project_columns(self._x, self._y, self._z, view_matrix(lens, pose))
        # A quarter more, as on stretched surfaces: their lattice is not that of this view.
        size = (self._size * float(lens[0, 0]) / z * 1.25).clamp_(1, MAX_FOOTPRINT)
        owner, behind = splat(x, y, z, size, size, height=depth.shape[0], width=depth.shape[1])
        borrowed = behind < depth * _IN_FRONT
        borrowed |= depth.isinf() & behind.isfinite()
        colors = paint(owner, self._rgb, (0, 0, 0))
        return colors.where(borrowed[..., None], image), behind.where(borrowed, depth), borrowed


def _finished(image: np.ndarray, depth: np.ndarray, borrowed: np.ndarray, inpaint: Inpainter | None) -> NovelView:
    invented = np.isinf(depth)
    if inpaint is not None and invented.any() and not invented.all():
        image = np.where(invented[..., None], inpaint(image, depth), image)
    return NovelView(image, depth, borrowed, invented)
