"""Selection of a scene's points and axes for export, shared by all formats and the command line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from fourdnex.export.triangles import grid_triangles
from fourdnex.geometry.cameras import grid_points, pixel_rays
from fourdnex.rendering.surface import SAME_SURFACE
from fourdnex.scene import Scene4D

UpAxis = Literal["-y", "y", "z"]

MESH_EDGE = SAME_SURFACE - 1
"""Default relative depth jump at which meshes are cut: the same as for surfaces in novel views."""

# Rotations from the world of a scene (x right, y down, z forward) to a world with another up axis.
_ROTATIONS: dict[UpAxis, list[list[float]]] = {
    "-y": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "y": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],  # the first camera looks along -z
    "z": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # the first camera looks along y
}
# OpenGL camera axes (x right, y up, looking along -z) to OpenCV camera axes.
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of all exports. None selects the default of the format.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    stride: int | None = None
    """stride over rows and columns of pixels (default: 1; for nerfstudio and colmap the stride that gives at most
    500,000 points and 1,500,000 observations)"""
    min_confidence: float = 0.0
    """minimum confidence of points, 0 to 1"""
    depth_edge: float | None = None
    """remove pixels whose depth differs from a neighbor's by more than this fraction, such as 0.05 (default: keep all);
    with --mesh, cut the mesh there (default: 0.25)"""
    up: UpAxis | None = None
    """up axis of the world (default: y for ply, usd and glb, z for nerfstudio, else --up=-y)"""
    scale: float = 1.0
    """factor applied to the world"""
    normals: bool = False
    """add normals oriented towards the camera (ply, usd, npz; glb with --mesh)"""
    mesh: bool = False
    """export a triangle mesh, cut at depth edges, instead of points (ply, usd, glb)"""
    moving: bool = False
    """keep points observed in a single frame, such as moving objects, as tracks of length 1 (colmap)"""
    tracks: bool = False
    """export tracked points, the same in every frame, with ids and velocities (usd), trails (rerun) or as additional
    arrays (npz)"""

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride: expected at least 1, got {self.stride}")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence: expected 0 to 1, got {self.min_confidence}")
        if self.depth_edge is not None and not self.depth_edge > 0:
            raise ValueError(f"depth_edge: expected a positive fraction, got {self.depth_edge}")
        if self.up is not None and self.up not in get_args(UpAxis):
            raise ValueError(f"up: expected one of {', '.join(get_args(UpAxis))}, got {self.up!r}")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale: expected a positive number, got {self.scale}")


DEFAULT_OPTIONS = ExportOptions()


@dataclass(frozen=True, eq=False)
class PointCloud:
    """The selected points of one frame, in row-major pixel order."""

    xyz: np.ndarray  # [N, 3] float32, exported world
    rgb: np.ndarray  # [N, 3] uint8
    pixels: np.ndarray  # [N] int64, y * width + x
    normals: np.ndarray | None  # [N, 3] float32, unit length, exported world

    def bounds(self) -> np.ndarray:
        """Minimum and maximum corner [2, 3] float32; the origin twice for an empty cloud."""
        if len(self.xyz) == 0:
            return np.zeros((2, 3), np.float32)
        columns = self.xyz.T  # per column: numpy reductions along rows of 3 are slow
        return np.array([[column.min() for column in columns], [column.max() for column in columns]], np.float32)


class Selection:
    """The points, depth and cameras of a scene that `ExportOptions` select, in the exported world.

    Args:
        up: default up axis of the format.
        max_points: number of points over all frames that determines the default stride.
        ups: up axes that the format supports.
        has_normals: whether the format supports normals.
        has_mesh: whether the format supports triangles.
        has_tracks: whether the format supports tracked points.

    Raises:
        ValueError: the format does not support an option, or no point passes the filters.
    """

    def __init__(
        self,
        scene: Scene4D,
        options: ExportOptions,
        *,
        up: UpAxis = "-y",
        max_points: int | None = None,
        ups: Sequence[UpAxis] = get_args(UpAxis),
        has_normals: bool = False,
        has_mesh: bool = False,
        has_tracks: bool = False,
    ) -> None:
        self.scene = scene
        self.options = options
        self.up: UpAxis = options.up or up
        if self.up not in ups:
            raise ValueError(f"up: this format supports {' and '.join(ups)} only, got {self.up}")
        if options.normals and not has_normals:
            raise ValueError("normals: not supported by this format")
        if options.mesh and not has_mesh:
            raise ValueError("mesh: not supported by this format; export to ply, usd or glb")
        if options.tracks and not has_tracks:
            raise ValueError("tracks: not supported by this format; export to usd, rerun or npz")
        if options.tracks and (options.mesh or options.normals):
            raise ValueError("tracks: cannot be combined with mesh or normals")
        pixels = scene.num_frames * scene.height * scene.width
        default_stride = 1 if max_points is None else int(np.ceil(np.sqrt(pixels / max_points)))
        self.stride = options.stride or max(default_stride, 1)
        if not any(self._mask(t).any() for t in range(scene.num_frames)):
            raise ValueError("points: no pixel has depth and passes min_confidence and depth_edge; relax them")
        if options.mesh and not any(len(self.triangles(t)) for t in range(scene.num_frames)):
            raise ValueError("mesh: no triangle remains; relax min_confidence, depth_edge or stride")

    @cached_property
    def rotation(self) -> np.ndarray:
        """Rotation [3, 3] float64 to the exported world: a point maps to scale * rotation @ point."""
        return np.array(_ROTATIONS[self.up], np.float64)

    @cached_property
    def camera_to_world(self) -> np.ndarray:
        """Rigid poses [T, 4, 4] float64: OpenCV camera axes to the exported world."""
        poses = self.scene.camera_to_world.astype(np.float64)
        poses[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        poses[:, :3, 3] = self.options.scale * poses[:, :3, 3] @ self.rotation.T
        return poses

    @property
    def opengl_camera_to_world(self) -> np.ndarray:
        """Rigid poses [T, 4, 4] float64: OpenGL camera axes (y up, looking along -z) to the exported world."""
        return self.camera_to_world @ _OPENCV_FROM_OPENGL

    @cached_property
    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels, pixel centers at integers, for formats without skew.

        Raises:
            ValueError: the intrinsics have skew.
        """
        k = self.scene.intrinsics.astype(np.float64)
        if k[0, 1] != 0:
            raise ValueError(f"intrinsics: expected no skew for this format, got {k[0, 1]}")
        return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])

    @property
    def provenance(self) -> str:
        """Name and provenance of the scene as one line of ASCII JSON."""
        return json.dumps({"name": self.scene.name, **self.scene.provenance}, sort_keys=True, default=str)

    def points(self, t: int) -> PointCloud:
        """The point cloud of frame `t`."""
        return self._cloud(t, self._mask(t) & self._grid)

    def mesh(self, t: int) -> tuple[PointCloud, np.ndarray]:
        """The triangle mesh of frame `t`: vertices, and vertex indices [M, 3] int32 of its triangles.

        Unused vertices are removed. Triangles are counterclockwise when seen from the frame's camera.
        """
        triangles = self.triangles(t)
        mask = np.zeros(self._grid.shape, bool)
        mask.flat[triangles] = True
        index = np.cumsum(mask, dtype=np.int32) - 1
        return self._cloud(t, mask), index[triangles]

    def shape(self, t: int) -> tuple[PointCloud, np.ndarray | None]:
        """The mesh of frame `t` with `options.mesh`, else its point cloud and None."""
        return self.mesh(t) if self.options.mesh else (self.points(t), None)

    def triangles(self, t: int) -> np.ndarray:
        """Triangles [M, 3] int64 of frame `t`, as pixel indices (y * width + x)."""
        subsample = np.s_[:: self.stride, :: self.stride]
        pixels = np.arange(self._grid.size).reshape(self._grid.shape)[subsample].ravel()
        depth = np.where(self._mask(t), self.scene.depth[t], np.float32(np.nan))[subsample]
        return pixels[grid_triangles(depth, MESH_EDGE if self.options.depth_edge is None else self.options.depth_edge)]

    def depth(self, t: int) -> np.ndarray:
        """Depth [H, W] float32 of frame `t` in exported units, without stride; NaN where the filters remove it."""
        return np.where(self._mask(t), self.scene.depth[t] * np.float32(self.options.scale), np.float32(np.nan))

    def diameters(self, t: int, cloud: PointCloud) -> np.ndarray:
        """Diameters [N] float32 of discs or spheres that leave no gaps in their camera's view, exported units.

        The diagonal of the cell between neighboring points: sqrt(2) times the spacing for square pixels. With the
        spacing as diameter, discs would cover pi / 4 of the image only.
        """
        fx, fy = self.scene.intrinsics[0, 0], self.scene.intrinsics[1, 1]
        cell = np.hypot(1 / fx, 1 / fy) * self.stride * self.options.scale  # diagonal at depth 1
        return self.scene.depth[t].reshape(-1)[cloud.pixels] * np.float32(cell)

    def _cloud(self, t: int, mask: np.ndarray) -> PointCloud:
        """The points of frame `t` at the pixels of a mask [H, W]."""
        pose = self.camera_to_world[t].copy()
        pose[:3, :3] *= self.options.scale
        depth = self.scene.depth[t]
        pixels = np.flatnonzero(mask)
        kept = None if len(pixels) == mask.size else pixels  # None: all pixels
        xyz = grid_points(depth, self.scene.intrinsics, pose, kept)
        rgb = self.scene.rgb[t].reshape(-1, 3)
        normals = None
        if self.options.normals:
            rotation = self.camera_to_world[t, :3, :3].astype(np.float32)
            normals = _normals(self._rays, depth)[mask] @ rotation.T
        return PointCloud(xyz, rgb.copy() if kept is None else rgb.take(kept, axis=0), pixels, normals)

    @cached_property
    def _rays(self) -> np.ndarray:
        """Rays [H, W, 3] float32 of the pixels, z = 1."""
        return pixel_rays(self.scene.height, self.scene.width, self.scene.intrinsics).astype(np.float32)

    @cached_property
    def _grid(self) -> np.ndarray:
        """[H, W] bool: pixels of the stride."""
        grid = np.zeros((self.scene.height, self.scene.width), bool)
        grid[:: self.stride, :: self.stride] = True
        return grid

    def _mask(self, t: int) -> np.ndarray:
        """[H, W] bool: pixels with depth that pass the filters, without stride."""
        depth = self.scene.depth[t]
        mask = np.isfinite(depth)
        if self.scene.confidence is not None and self.options.min_confidence > 0:
            mask &= self.scene.confidence[t] >= self.options.min_confidence
        if self.options.depth_edge is not None and not self.options.mesh:
            mask &= ~depth_edges(depth, self.options.depth_edge)
        return mask


def depth_edges(depth: np.ndarray, threshold: float) -> np.ndarray:
    """Pixels [H, W] bool on both sides of depth edges of a depth map [H, W], with four neighbors.

    An edge is a difference above `threshold` times the smaller of the two depths. Holes (NaN) are not edges.
    """
    edges = np.zeros(depth.shape, bool)
    for here, there in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        near, far = np.minimum(depth[here], depth[there]), np.maximum(depth[here], depth[there])
        jump = far - near > threshold * near
        edges[here] |= jump
        edges[there] |= jump
    return edges


def _normals(rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] float32 in the camera's frame, oriented towards the camera.

    Along each image axis, the difference to the neighbor with the smaller change in depth is used, which avoids depth
    edges. The normal of a pixel without neighbors points to the camera.
    """
    points = rays * depth[..., None]
    across = _smaller_difference(points)
    down = _smaller_difference(points.swapaxes(0, 1)).swapaxes(0, 1)
    normals = np.empty_like(points)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        normals[..., i] = across[..., j] * down[..., k] - across[..., k] * down[..., j]
    with np.errstate(invalid="ignore", divide="ignore"):
        normals /= np.sqrt((normals * normals).sum(axis=-1, keepdims=True))
    away = (normals * rays).sum(axis=-1) > 0
    normals[away] *= -1
    isolated = ~np.isfinite(normals).all(axis=-1)
    normals[isolated] = -rays[isolated] / np.linalg.norm(rays[isolated], axis=-1, keepdims=True)
    return normals


def _smaller_difference(points: np.ndarray) -> np.ndarray:
    """Differences [H, W, 3] along the second axis, on the side where depth changes less."""
    step = np.full((points.shape[0], points.shape[1] + 1, 3), np.nan, np.float32)
    step[:, 1:-1] = points[:, 1:] - points[:, :-1]
    before, after = step[:, :-1], step[:, 1:]
    first = np.isnan(after[..., 2]) | (np.abs(before[..., 2]) < np.abs(after[..., 2]))
    return np.where(first[..., None], before, after)
