"""Point splatting with a depth buffer, in numpy: every point is a rectangle of whole pixels."""

from dataclasses import dataclass

import numpy as np

from fourdnex.geometry.cameras import pixel_rays, project, transform_points
from fourdnex.scene import Scene4D

MAX_STRETCH = 5.0
"""Widest rectangle of one point, in pixels of the scene: a point right before the camera must not cover the picture."""
SAME_SURFACE = 1.25
"""Neighbouring pixels whose depths differ by less than this factor are taken for one surface."""


@dataclass(frozen=True, eq=False)
class Splat:
    """One rendered view."""

    image: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, z in the camera's frame; infinite where no point is seen


def splat_points(
    xyz: np.ndarray,
    rgb: np.ndarray,
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,
    *,
    height: int,
    width: int,
    footprints: np.ndarray | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Splat:
    """Render points; the nearest one wins in every pixel.

    Args:
        xyz: [N, 3] in the world's frame.
        rgb: [N, 3] uint8.
        intrinsics: [3, 3] pixels.
        camera_to_world: [4, 4].
        footprints: [N, 2] width and height of each point in pixels of the view; a single pixel each when None.

    Raises:
        ValueError: shapes do not fit.
    """
    if xyz.ndim != 2 or xyz.shape[1:] != (3,) or rgb.shape != xyz.shape or rgb.dtype != np.uint8:
        raise ValueError(f"xyz and rgb: expected [N, 3] and [N, 3] uint8, got {xyz.shape}, {rgb.shape} {rgb.dtype}")
    pixels, depth = project(xyz[None], intrinsics, camera_to_world[None])
    x, y, z = pixels[0, :, 0], pixels[0, :, 1], depth[0]
    wide, high = np.ones((2, len(z)), int) if footprints is None else np.ceil(footprints.T - 0.02).astype(int).clip(1)
    with np.errstate(invalid="ignore"):
        seen = (z > 0) & (x > -wide) & (x < width + wide) & (y > -high) & (y < height + high)
    # Far to near: of several values that numpy assigns to one pixel, the last stays.
    order = np.flatnonzero(seen)
    order = order[np.argsort(-z[order], kind="stable")]
    x, y, z, wide, high = (values[order] for values in (x, y, z, wide, high))
    left = np.floor(x - (wide - 1) / 2 + 0.5).astype(int)
    top = np.floor(y - (high - 1) / 2 + 0.5).astype(int)

    buffer = np.full(height * width, np.inf, np.float32)
    owner = np.full(height * width, -1)
    for down, right in np.ndindex(int(high.max(initial=0)), int(wide.max(initial=0))):
        column, row = left + right, top + down
        drawn = np.flatnonzero(
            (wide > right) & (high > down) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        )
        flat = row[drawn] * width + column[drawn]
        nearest = np.full(height * width, -1)
        nearest[flat] = drawn
        hit = np.flatnonzero(nearest >= 0)
        hit = hit[z[nearest[hit]] < buffer[hit]]
        buffer[hit] = z[nearest[hit]]
        owner[hit] = nearest[hit]
    image = np.empty((height * width, 3), np.uint8)
    image[:] = background
    covered = owner >= 0
    image[covered] = rgb[order[owner[covered]]]
    return Splat(image.reshape(height, width, 3), buffer.reshape(height, width))


def render_frame(
    scene: Scene4D,
    t: int,
    camera_to_world: np.ndarray,
    *,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Splat:
    """View of the point cloud at frame `t` from a camera [4, 4] with the scene's own lens.

    Points are as large as the distance to their neighbours on the same surface in this view, so that surfaces seen
    from aside stay closed, and the view from the frame's own camera is the frame itself.

    Args:
        zoom: size of the picture, in sizes of the scene's frames.
    """
    height, width = max(1, round(scene.height * zoom)), max(1, round(scene.width * zoom))
    intrinsics = scene.intrinsics.astype(np.float64)
    intrinsics[:2] *= zoom
    # Pixel centres are integers: the picture's border is at -0.5.
    intrinsics[:2, 2] += 0.5 * zoom - 0.5
    valid = np.isfinite(scene.depth[t])
    if scene.confidence is not None and min_confidence > 0:
        valid &= scene.confidence[t] >= min_confidence
    local = pixel_rays(scene.height, scene.width, scene.intrinsics) * scene.depth[t][..., None]
    points = transform_points(local, scene.camera_to_world[t])
    pixels = project(points[None], intrinsics, camera_to_world[None])[0][0]
    footprints = _spacing(pixels, np.where(valid, scene.depth[t], np.nan), zoom)
    return splat_points(
        points[valid],
        scene.rgb[t][valid],
        intrinsics,
        camera_to_world,
        height=height,
        width=width,
        footprints=footprints[valid],
        background=background,
    )


def render_video(
    scene: Scene4D,
    cameras: np.ndarray,
    *,
    frames: np.ndarray | None = None,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    background: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
    """Novel-view video [N, H, W, 3] uint8 along cameras [N, 4, 4].

    Args:
        frames: [N] frame of the scene for each camera; by default time runs with the cameras, from first to last.

    Raises:
        ValueError: wrong shape of `cameras` or `frames`.
    """
    if cameras.ndim != 3 or cameras.shape[1:] != (4, 4) or len(cameras) == 0:
        raise ValueError(f"cameras: expected [N, 4, 4], got {cameras.shape}")
    if frames is None:
        frames = np.round(np.linspace(0, scene.num_frames - 1, len(cameras))).astype(int)
    if frames.shape != (len(cameras),):
        raise ValueError(f"frames: expected one for each of {len(cameras)} cameras, got shape {frames.shape}")
    return np.stack(
        [
            render_frame(scene, int(t), camera, zoom=zoom, min_confidence=min_confidence, background=background).image
            for t, camera in zip(frames, cameras, strict=True)
        ]
    )


def _spacing(pixels: np.ndarray, depth: np.ndarray, zoom: float) -> np.ndarray:
    """Greatest distance [H, W, 2] in the view, across and down, from each pixel to its neighbours on the same surface.

    At least `zoom` (a pixel of the scene), at most MAX_STRETCH times that. Stretched surfaces get a quarter more: the
    lattice of their pixels is sheared as well, and rectangles of just the distance would leave pinholes.
    """
    spacing = np.full(pixels.shape, float(zoom))
    for before, after in (
        (np.s_[:-1], np.s_[1:]),  # rows
        (np.s_[:, :-1], np.s_[:, 1:]),  # columns
    ):
        with np.errstate(invalid="ignore"):
            joined = np.maximum(depth[before], depth[after]) < SAME_SURFACE * np.minimum(depth[before], depth[after])
            distance = np.where(joined[..., None], np.abs(pixels[after] - pixels[before]), 0)
        for side in (before, after):
            spacing[side] = np.fmax(spacing[side], distance)
    return np.where(spacing > 1.02 * zoom, 1.25 * spacing, spacing).clip(zoom, MAX_STRETCH * zoom)
