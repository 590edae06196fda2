"""Analytic ray casting of a `Scene`: like `raycast`, with rotated solids, uneven ground and a point light.

Camera rays have z = 1 in the camera frame, so the ray parameter of a hit is its depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourdnex.datasets.worlds import shapes
from fourdnex.datasets.worlds.camera_rays import Frames, camera_rays
from fourdnex.datasets.worlds.finishes import Finish
from fourdnex.datasets.worlds.raycast import bounds_in_image
from fourdnex.datasets.worlds.shapes import MISS, Components
from fourdnex.datasets.worlds.solids import Ground, Scene, Sky, Solid

_SKY, _GROUND, _FIRST_SOLID = range(3)
_NEAR = np.float32(0.02)
"""Near plane, meters."""


@dataclass(frozen=True, kw_only=True)
class _PosedSolid:
    """A solid and its poses over the clip."""

    solid: Solid
    center: np.ndarray  # [T, 3] float32
    rotation: np.ndarray  # [T, 3, 3] float32, object axes to building axes
    half: np.ndarray  # [3] float32
    radius: float  # of the bounding sphere

    def to_unit_axes(self, vector: Components, frame: np.ndarray | slice) -> Components:
        """Transform vectors from the building frame to that of the unit shape; `frame` selects the pose of each."""
        rotation = self.rotation[frame]
        if rotation.ndim == 3 and isinstance(frame, slice):
            rotation = rotation[:, :, :, None, None]
            rows = [[rotation[:, i, j] for i in range(3)] for j in range(3)]
        else:
            rows = [[rotation[..., i, j] for i in range(3)] for j in range(3)]
        return [
            (row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2]) * (1 / self.half[j])
            for j, row in enumerate(rows)
        ]


def focal_length(focal: float, height: int, width: int) -> float:
    """Focal length in pixels of `focal` in image widths.

    The width is that of a 3:2 image with the same number of pixels, so that portrait and square images show objects at
    the same size.
    """
    return float(focal * np.sqrt(1.5 * height * width))


def cast_scene(
    scene: Scene, *, num_frames: int, height: int, width: int, focal: float | None = None, with_rgb: bool = True
) -> Frames:
    """Render `scene` at `num_frames` equally spaced times from 0 to 1.

    `focal` in pixels overrides that of the camera; without `with_rgb` shading is skipped and the images are black.
    """
    focal = focal or focal_length(scene.camera.focal, height, width)
    camera = camera_rays(scene.camera, focal, num_frames=num_frames, height=height, width=width)
    time, pose, eye, ray = camera.time, camera.pose, camera.eye, camera.ray

    depth = np.full((num_frames, height, width), MISS, np.float32)
    surface = np.full(depth.shape, _SKY, np.int16)
    if scene.sky is not None:
        depth = _cast_sky(scene.sky, eye, ray)
    if scene.ground is not None:
        _cast_ground(scene.ground, eye, ray, depth, surface)
    posed = [_pose_solid(solid, time) for solid in scene.solids]
    for index, item in enumerate(posed):
        window = (
            (slice(0, height), slice(0, width))
            if item.solid.shape == "shell"
            else bounds_in_image(item.center, item.radius, pose, focal, height, width)
        )
        if window is not None:
            _cast_solid(item, window, eye, ray, depth, surface, index)
    if with_rgb:
        rgb = _shade(scene, posed, eye, ray, depth, surface, focal)
    else:
        rgb = np.zeros((*depth.shape, 3), np.uint8)
    moving = np.array([False] * _FIRST_SOLID + [solid.motion.motion != "rest" for solid in scene.solids])
    return camera.frames(rgb=rgb, depth=depth, dynamic_mask=moving[surface])


def _pose_solid(solid: Solid, time: np.ndarray) -> _PosedSolid:
    """A solid with its poses at `time` [T]."""
    rotation, shift = solid.motion.transforms(time)
    half = solid.half
    radius = {"ellipsoid": half.max(), "cylinder": np.hypot(max(half[0], half[2]), half[1])}.get(solid.shape)
    return _PosedSolid(
        solid=solid,
        center=(rotation @ solid.center + shift).astype(np.float32),
        rotation=(rotation @ solid.rotation).astype(np.float32),
        half=half.astype(np.float32),
        radius=float(np.linalg.norm(half) if radius is None else radius),
    )


def _cast_sky(sky: Sky, eye: Components, ray: Components) -> np.ndarray:
    """Depth [T, H, W] of the sky dome."""
    a = ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2
    b = eye[0] * ray[0] + eye[1] * ray[1] + eye[2] * ray[2]
    c = eye[0] ** 2 + eye[1] ** 2 + eye[2] ** 2 - np.float32(sky.radius) ** 2
    return ((-b + np.sqrt(b * b - a * c)) / a).astype(np.float32)


def _cast_ground(ground: Ground, eye: Components, ray: Components, depth: np.ndarray, surface: np.ndarray) -> None:
    """Intersect the ground, level ground analytically; write nearer hits to `depth` and `surface` in place."""
    if ground.is_level:
        with np.errstate(divide="ignore"):
            t = np.where(ray[1] > 1e-6, -eye[1] / ray[1], MISS)
        t = np.where(t > 0, t, MISS)
    else:
        t = _march_uneven_ground(ground, eye, ray, np.minimum(depth, np.float32(1e3)))
    nearer = t < depth
    np.copyto(depth, t, where=nearer)
    surface[nearer] = _GROUND


def _march_uneven_ground(
    ground: Ground, eye: Components, ray: Components, limit: np.ndarray, *, steps: int = 40, bisections: int = 14
) -> np.ndarray:
    """Ray parameter of the ground: steps that grow with the distance bracket the hit, then bisection refines it."""

    def above(t: np.ndarray) -> np.ndarray:
        """Height of the ray above the ground."""
        return -(eye[1] + t * ray[1]) - ground.height(eye[0] + t * ray[0], eye[2] + t * ray[2])

    low, high = np.zeros_like(limit), np.full_like(limit, MISS)
    previous = np.zeros_like(limit)
    for step in range(1, steps + 1):
        t = limit * np.float32((step / steps) ** 2)
        crossed = (high == MISS) & (above(t) < 0)
        np.copyto(low, previous, where=crossed)
        np.copyto(high, t, where=crossed)
        previous = t
    hit = high < MISS
    for _ in range(bisections):
        middle = np.float32(0.5) * (low + high)
        below = above(middle) < 0
        high = np.where(hit & below, middle, high)
        low = np.where(hit & ~below, middle, low)
    return np.where(hit, high, MISS)


def _cast_solid(
    item: _PosedSolid,
    window: tuple[slice, slice],
    eye: Components,
    ray: Components,
    depth: np.ndarray,
    surface: np.ndarray,
    index: int,
) -> None:
    """Intersect one solid inside its window; write nearer hits to `depth` and `surface` in place."""
    part = (slice(None), *window)
    d = item.to_unit_axes([component[part] for component in ray], slice(None))
    o = item.to_unit_axes([eye[i] - item.center[:, i, None, None] for i in range(3)], slice(None))
    hit = shapes.intersect(item.solid.shape, o, d, open_top=item.solid.open_top)
    nearer = (hit > _NEAR) & (hit < depth[part])
    np.copyto(depth[part], hit, where=nearer)
    surface[part][nearer] = _FIRST_SOLID + index


def _shade(
    scene: Scene,
    posed: list[_PosedSolid],
    eye: Components,
    ray: Components,
    depth: np.ndarray,
    surface: np.ndarray,
    focal: float,
) -> np.ndarray:
    """Shaded colors [T, H, W, 3] uint8 of the visible surfaces."""
    per_frame = depth.shape[1] * depth.shape[2]
    surface = surface.reshape(-1)
    point = [(eye[i] + depth * ray[i]).reshape(-1) for i in range(3)]
    distance = depth.reshape(-1)
    footprint = distance * np.float32(1 / focal)
    light_position = scene.light_position.astype(np.float32)
    to_light = [light_position[i] - point[i] for i in range(3)]
    length = np.sqrt(to_light[0] ** 2 + to_light[1] ** 2 + to_light[2] ** 2)
    to_light = [component / length for component in to_light]
    color = np.zeros((surface.size, 3), np.float32)
    lambert = np.zeros(surface.size, np.float32)
    emissive = surface == _SKY
    order = np.argsort(surface, kind="stable")
    starts = np.searchsorted(surface[order], np.arange(_FIRST_SOLID + len(posed) + 1))
    for kind in range(_GROUND, _FIRST_SOLID + len(posed)):
        at = order[starts[kind] : starts[kind + 1]]
        if at.size == 0:
            continue
        p, light = [component[at] for component in point], [component[at] for component in to_light]
        if kind == _GROUND:
            assert scene.ground is not None
            gx, gz = scene.ground.gradient(p[0], p[2])
            color[at] = scene.ground.finish.color(p[0], p[2], footprint[at])
            size = np.sqrt(gx**2 + gz**2 + 1)
            lambert[at] = -(gx * light[0] + light[1] + gz * light[2]) / size
            continue
        item = posed[kind - _FIRST_SOLID]
        color[at], lambert[at] = _shade_solid(item, p, light, at // per_frame, footprint[at])
        if item.solid.emissive:
            emissive[at] = True
    lit = np.maximum(lambert, 0)
    candidates = np.flatnonzero((lambert > 0.02) & ~emissive)
    lit[candidates] *= 1 - np.float32(0.8) * _shadow(
        posed,
        [component[candidates] for component in point],
        [component[candidates] for component in to_light],
        length[candidates],
        candidates // per_frame,
    )
    ambient = np.float32(scene.ambient)
    shade = ambient + (1 - ambient) * lit + np.float32(0.12) * np.minimum(lambert, 0)
    color *= np.where(emissive, np.float32(1), shade)[:, None]
    if scene.sky is not None:
        _paint_sky(scene.sky, point, surface, color)
        if scene.haze > 0:
            veil = np.where(surface == _SKY, 0, 1 - np.exp(-np.float32(scene.haze) * distance))[:, None]
            color += veil * (np.array(scene.sky.horizon, np.float32) - color)
    return (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(*depth.shape, 3)


def _shade_solid(
    item: _PosedSolid, point: Components, light: Components, frame: np.ndarray, footprint: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colors [N, 3] of points on a solid, and cosines [N] between normal and light."""
    solid, half = item.solid, item.half
    p = item.to_unit_axes([point[i] - item.center[frame, i] for i in range(3)], frame)
    n = [component / half[i] for i, component in enumerate(shapes.surface_normal(solid.shape, p))]
    size = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + np.float32(1e-9)
    n = [component / size for component in n]
    light_on_axes = item.to_unit_axes(light, frame)  # divided by `half`, which the next line undoes
    cosine = sum(n[i] * light_on_axes[i] * half[i] for i in range(3))
    a, b = _surface_coordinates(solid.shape, p, n, half)
    color = np.empty((len(a), 3), np.float32)
    groups: list[tuple[Finish, np.ndarray]] = []
    up, down = n[1] < -0.7, n[1] > 0.7
    rest = np.ones(len(a), bool)
    for finish, where in ((solid.top, up), (solid.bottom, down)):
        if finish is not None:
            groups.append((finish, where))
            rest &= ~where
    for finish, where in [*groups, (solid.finish, rest)]:
        if where.any():
            color[where] = finish.color(a[where], b[where], footprint[where])
    return color, cosine


def _surface_coordinates(shape: str, p: Components, n: Components, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface coordinates in meters: planar across the normal's dominant axis, or cylindrical for round shapes."""
    x, y, z = (p[i] * half[i] for i in range(3))
    if shape in ("ellipsoid", "cylinder", "cone"):
        around = np.arctan2(p[0], p[2]) * half[0]
        cap = np.abs(n[1]) > 0.999
        return np.where(cap, x, around), np.where(cap, z, y)
    ax, ay, az = (np.abs(component) for component in n)
    across_x, across_y = (ax >= ay) & (ax >= az), (ay > ax) & (ay >= az)
    return np.where(across_x, z, x), np.where(across_y, z, y)


def _shadow(
    posed: list[_PosedSolid], point: Components, light: Components, length: np.ndarray, frame: np.ndarray
) -> np.ndarray:
    """1 where a solid occludes the light, else 0; [N] float32."""
    shadow = np.zeros(frame.size, np.float32)
    for item in posed:
        if item.solid.shape == "shell" or item.solid.emissive:
            continue
        to_center = [item.center[frame, i] - point[i] for i in range(3)]
        along = to_center[0] * light[0] + to_center[1] * light[1] + to_center[2] * light[2]
        square = to_center[0] ** 2 + to_center[1] ** 2 + to_center[2] ** 2
        radius = np.float32(item.radius)
        near = np.flatnonzero((along > -radius) & (along < length + radius) & (square - along**2 < radius**2))
        near = near[shadow[near] == 0]
        if near.size == 0:
            continue
        o = item.to_unit_axes([-to_center[i][near] + np.float32(4e-3) * light[i][near] for i in range(3)], frame[near])
        d = item.to_unit_axes([light[i][near] for i in range(3)], frame[near])
        hit = shapes.intersect(item.solid.shape, o, d)
        shadow[near[(hit > 1e-2) & (hit < length[near])]] = 1.0
    return shadow


def _paint_sky(sky: Sky, point: Components, surface: np.ndarray, color: np.ndarray) -> None:
    """Paint the gradient of the sky and its clouds, in place."""
    at = np.flatnonzero(surface == _SKY)
    if at.size == 0:
        return
    up = np.clip(-point[1][at] / np.float32(sky.radius) * 1.8, 0, 1)[:, None]
    zenith, horizon = (np.array(c, np.float32) for c in (sky.zenith, sky.horizon))
    color[at] = horizon + up * (zenith - horizon)
    if sky.clouds is not None:
        high = np.maximum(-point[1][at] / np.float32(sky.radius), 0) + np.float32(0.15)
        x, z = point[0][at] / (high * np.float32(sky.radius)), point[2][at] / (high * np.float32(sky.radius))
        veil = sky.clouds.color(x, z, np.full_like(x, 0.05))
        color[at] = np.maximum(color[at], veil * np.minimum(1, 2 * up + 0.2))
