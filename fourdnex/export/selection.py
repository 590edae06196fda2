"""What of a scene is exported, and in which axes: one choice shared by all formats and the command line."""

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
"""Where meshes are cut unless told: the jump of depth, as a share, at which novel views end a surface."""

# World of a scene (x right, y down, z forward) to a world with another axis up; rotations, so nothing is mirrored.
_ROTATIONS: dict[UpAxis, list[list[float]]] = {
    "-y": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "y": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],  # the first camera looks along -z
    "z": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # the first camera looks along y
}
# OpenGL's axes of a camera (x right, y up, looking along -z) in OpenCV's.
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of every export. None takes what suits the format.

    Raises:
        ValueError: a value out of its range; the message names the field.
    """

    stride: int | None = None
    """take every n-th pixel across and down (default: 1; for nerfstudio what gives 500,000 points, for colmap
    1,500,000 observations)"""
    min_confidence: float = 0.0
    """leave out points below it, 0 to 1"""
    depth_edge: float | None = None
    """leave out pixels where depth jumps by more than this share to a neighbor, such as 0.05 (default: keep all); with
    --mesh, cut the mesh there (default: 0.25)"""
    up: UpAxis | None = None
    """axis of the world that points up (default: the format's; y for ply, usd, glb, z for nerfstudio, else --up=-y)"""
    scale: float = 1.0
    """multiply the world by it"""
    normals: bool = False
    """add normals, towards the camera (ply, usd, npz; glb with --mesh)"""
    mesh: bool = False
    """triangles between neighboring pixels, cut at depth edges, instead of points (ply, usd, glb)"""
    moving: bool = False
    """keep points that one frame alone sees, such as moving parts, with tracks of length 1 (colmap)"""
    tracks: bool = False
    """the same points in every frame, which follow what moves, with ids and velocities (usd), trails (rerun) or as
    further arrays (npz)"""

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride: expected at least 1, got {self.stride}")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence: expected 0 to 1, got {self.min_confidence}")
        if self.depth_edge is not None and not self.depth_edge > 0:
            raise ValueError(f"depth_edge: expected a positive share, got {self.depth_edge}")
        if self.up is not None and self.up not in get_args(UpAxis):
            raise ValueError(f"up: expected one of {', '.join(get_args(UpAxis))}, got {self.up!r}")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale: expected a positive number, got {self.scale}")


DEFAULT_OPTIONS = ExportOptions()


@dataclass(frozen=True, eq=False)
class PointCloud:
    """The selected points of one frame, in row-major order of their pixels."""

    xyz: np.ndarray  # [N, 3] float32, exported world
    rgb: np.ndarray  # [N, 3] uint8
    pixels: np.ndarray  # [N] int64, y * width + x
    normals: np.ndarray | None  # [N, 3] float32, unit length, exported world

    def bounds(self) -> np.ndarray:
        """Smallest and largest corner [2, 3] float32; of no points at all, the origin twice."""
        if len(self.xyz) == 0:
            return np.zeros((2, 3), np.float32)
        columns = self.xyz.T  # one by one: numpy is slow to reduce along rows of 3
        return np.array([[column.min() for column in columns], [column.max() for column in columns]], np.float32)


class Selection:
    """A scene seen through `ExportOptions`: its points, depth and cameras, all in one exported world.

    Args:
        up: the format's own axis, where the options name none.
        max_points: of all frames, by which the stride is chosen where the options name none.
        ups: the axes that the format knows.
        has_normals: whether the format can hold normals.
        has_mesh: whether the format can hold triangles.
        has_tracks: whether the format can hold points with an identity over time.

    Raises:
        ValueError: options that the format cannot serve, or that leave no point in any frame.
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
            raise ValueError(f"up: this format knows {' and '.join(ups)} only, got {self.up}")
        if options.normals and not has_normals:
            raise ValueError("normals: this format holds none")
        if options.mesh and not has_mesh:
            raise ValueError("mesh: this format holds points only; export to ply, usd or glb")
        if options.tracks and not has_tracks:
            raise ValueError("tracks: this format holds no points with an identity; export to usd, rerun or npz")
        if options.tracks and (options.mesh or options.normals):
            raise ValueError("tracks: they are points without normals, which mesh and normals do not go with")
        pixels = scene.num_frames * scene.height * scene.width
        fitting = 1 if max_points is None else int(np.ceil(np.sqrt(pixels / max_points)))
        self.stride = options.stride or max(fitting, 1)
        if not any(self._mask(t).any() for t in range(scene.num_frames)):
            raise ValueError("points: expected some, but no pixel has depth and passes min_confidence and depth_edge")
        if options.mesh and not any(len(self.triangles(t)) for t in range(scene.num_frames)):
            raise ValueError("mesh: expected triangles, but no neighboring pixels pass the filters on one surface")

    @cached_property
    def rotation(self) -> np.ndarray:
        """[3, 3] float64: the scene's axes to the exported ones; a point goes to scale * rotation @ point."""
        return np.array(_ROTATIONS[self.up], np.float64)

    @cached_property
    def camera_to_world(self) -> np.ndarray:
        """[T, 4, 4] float64, rigid: OpenCV camera axes to the exported world."""
        poses = self.scene.camera_to_world.astype(np.float64)
        poses[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        poses[:, :3, 3] = self.options.scale * poses[:, :3, 3] @ self.rotation.T
        return poses

    @property
    def opengl_camera_to_world(self) -> np.ndarray:
        """[T, 4, 4] float64, rigid: OpenGL camera axes (y up, looking along -z) to the exported world."""
        return self.camera_to_world @ _OPENGL

    @cached_property
    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels whose centers are integers, for formats without skew.

        Raises:
            ValueError: the intrinsics have skew.
        """
        k = self.scene.intrinsics.astype(np.float64)
        if k[0, 1] != 0:
            raise ValueError(f"intrinsics: expected no skew for this format, got {k[0, 1]}")
        return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])

    @property
    def provenance(self) -> str:
        """Where the scene comes from, as one line of JSON in ASCII."""
        return json.dumps({"name": self.scene.name, **self.scene.provenance}, sort_keys=True, default=str)

    def points(self, t: int) -> PointCloud:
        """The point cloud of frame `t`."""
        return self._cloud(t, self._mask(t) & self._grid)

    def mesh(self, t: int) -> tuple[PointCloud, np.ndarray]:
        """The triangle mesh of frame `t`: its vertices, and triangles [M, 3] int32 of their indices.

        Vertices that no triangle uses are left out. Triangles are counterclockwise seen from the frame's camera.
        """
        triangles = self.triangles(t)
        mask = np.zeros(self._grid.shape, bool)
        mask.flat[triangles] = True
        index = np.cumsum(mask, dtype=np.int32) - 1
        return self._cloud(t, mask), index[triangles]

    def shape(self, t: int) -> tuple[PointCloud, np.ndarray | None]:
        """The mesh of frame `t` if the options ask for it; else its point cloud and None."""
        return self.mesh(t) if self.options.mesh else (self.points(t), None)

    def triangles(self, t: int) -> np.ndarray:
        """Triangles [M, 3] int64 of frame `t`, as pixels (y * width + x)."""
        every = np.s_[:: self.stride, :: self.stride]
        pixels = np.arange(self._grid.size).reshape(self._grid.shape)[every].ravel()
        depth = np.where(self._mask(t), self.scene.depth[t], np.float32(np.nan))[every]
        return pixels[grid_triangles(depth, MESH_EDGE if self.options.depth_edge is None else self.options.depth_edge)]

    def depth(self, t: int) -> np.ndarray:
        """Depth [H, W] float32 of frame `t` in exported units, every pixel; NaN where the options leave it out."""
        return np.where(self._mask(t), self.scene.depth[t] * np.float32(self.options.scale), np.float32(np.nan))

    def diameters(self, t: int, cloud: PointCloud) -> np.ndarray:
        """[N] float32: diameters of discs or balls that close the cloud for its own camera, exported units.

        They reach the corners of the cell between neighboring points: the spacing times the square root of 2 where
        pixels are square. As wide as the spacing, discs cover pi / 4 of the image.
        """
        fx, fy = self.scene.intrinsics[0, 0], self.scene.intrinsics[1, 1]
        cell = np.hypot(1 / fx, 1 / fy) * self.stride * self.options.scale  # diagonal at depth 1
        return self.scene.depth[t].reshape(-1)[cloud.pixels] * np.float32(cell)

    def _cloud(self, t: int, mask: np.ndarray) -> PointCloud:
        pose = self.camera_to_world[t].copy()
        pose[:3, :3] *= self.options.scale
        depth = self.scene.depth[t]
        pixels = np.flatnonzero(mask)
        kept = None if len(pixels) == mask.size else pixels  # all of them: nothing to look up
        xyz = grid_points(depth, self.scene.intrinsics, pose, kept)
        rgb = self.scene.rgb[t].reshape(-1, 3)
        normals = None
        if self.options.normals:
            rotation = self.camera_to_world[t, :3, :3].astype(np.float32)
            normals = _normals(self._rays, depth)[mask] @ rotation.T
        return PointCloud(xyz, rgb.copy() if kept is None else rgb.take(kept, axis=0), pixels, normals)

    @cached_property
    def _rays(self) -> np.ndarray:
        return pixel_rays(self.scene.height, self.scene.width, self.scene.intrinsics).astype(np.float32)

    @cached_property
    def _grid(self) -> np.ndarray:
        grid = np.zeros((self.scene.height, self.scene.width), bool)
        grid[:: self.stride, :: self.stride] = True
        return grid

    def _mask(self, t: int) -> np.ndarray:
        """[H, W] bool: pixels with depth that pass the filters, before the stride."""
        depth = self.scene.depth[t]
        mask = np.isfinite(depth)
        if self.scene.confidence is not None and self.options.min_confidence > 0:
            mask &= self.scene.confidence[t] >= self.options.min_confidence
        if self.options.depth_edge is not None and not self.options.mesh:
            mask &= ~depth_edges(depth, self.options.depth_edge)
        return mask


def depth_edges(depth: np.ndarray, threshold: float) -> np.ndarray:
    """Pixels [H, W] bool on either side of a jump of depth [H, W] to one of the four neighbors.

    A jump is a difference above `threshold` times the nearer of the two depths. A hole (NaN) is no jump.
    """
    edges = np.zeros(depth.shape, bool)
    for here, there in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        near, far = np.minimum(depth[here], depth[there]), np.maximum(depth[here], depth[there])
        jump = far - near > threshold * near
        edges[here] |= jump
        edges[there] |= jump
    return edges


def _normals(rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] float32 in the camera's frame, towards the camera.

    In each direction of the image the neighbor nearer in depth counts, so that a normal does not reach over an edge.
    A pixel without neighbors faces the camera.
    """
    points = rays * depth[..., None]
    across = _step(points)
    down = _step(points.swapaxes(0, 1)).swapaxes(0, 1)
    normals = np.empty_like(points)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        normals[..., i] = across[..., j] * down[..., k] - across[..., k] * down[..., j]
    with np.errstate(invalid="ignore", divide="ignore"):
        normals /= np.sqrt((normals * normals).sum(axis=-1, keepdims=True))
    away = (normals * rays).sum(axis=-1) > 0
    normals[away] *= -1
    lonely = ~np.isfinite(normals).all(axis=-1)
    normals[lonely] = -rays[lonely] / np.linalg.norm(rays[lonely], axis=-1, keepdims=True)
    return normals


def _step(points: np.ndarray) -> np.ndarray:
    """Differences [H, W, 3] along the second axis, to the neighbor on the side where depth changes less."""
    step = np.full((points.shape[0], points.shape[1] + 1, 3), np.nan, np.float32)
    step[:, 1:-1] = points[:, 1:] - points[:, :-1]
    before, after = step[:, :-1], step[:, 1:]
    first = np.isnan(after[..., 2]) | (np.abs(before[..., 2]) < np.abs(after[..., 2]))
    return np.where(first[..., None], before, after)
