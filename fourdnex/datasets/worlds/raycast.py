"""Analytic ray casting of worlds of the family `primitives`, all frames at once, in NumPy.

Camera rays have z = 1 in the camera frame, so the ray parameter of a hit is its depth. Objects are intersected only
inside the image window of their bounding spheres; shadow rays only where they pass through a bounding sphere. The
contrast of a texture fades with the pixel's footprint, which avoids aliasing of distant surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourdnex.datasets.worlds.camera_rays import Frames, camera_rays
from fourdnex.datasets.worlds.scenes import Texture, World, WorldObject

_FAR = np.float32(1e9)
_PARALLEL = np.float32(1e-6)
"""Rays with a smaller component along an axis count as parallel to the planes across that axis."""


@dataclass(frozen=True, kw_only=True)
class _PosedObject:
    """An object and its poses over the clip in the building frame."""

    world_object: WorldObject
    center: np.ndarray  # [T, 3] float32
    cos: np.ndarray  # [T] float32, of the yaw
    sin: np.ndarray
    radius: float  # of the bounding sphere

    def to_object_axes(self, x: np.ndarray, z: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotate horizontal components from building to object axes; `frame` holds the frame indices."""
        cos, sin = self.cos[frame], self.sin[frame]
        return cos * x - sin * z, sin * x + cos * z


def cast(world: World, *, num_frames: int, height: int, width: int) -> Frames:
    """Render `world` at `num_frames` equally spaced times from 0 to 1."""
    focal = world.camera.focal * width
    camera = camera_rays(world.camera, focal, num_frames=num_frames, height=height, width=width)
    time, pose, eye, ray = camera.time, camera.pose, camera.eye, camera.ray

    depth, surface = _cast_surroundings(world, eye, ray)
    posed = [_pose_object(world_object, time) for world_object in world.objects]
    windows = [bounds_in_image(item.center, item.radius, pose, focal, height, width) for item in posed]
    for index, (item, window) in enumerate(zip(posed, windows, strict=True)):
        if window is not None:
            _cast_object(item, window, eye, ray, depth, surface, index)
    rgb = _shade(world, posed, eye, ray, depth, surface, focal)
    moving = np.array([False] * _FIRST_OBJECT + [world_object.moves for world_object in world.objects])
    return camera.frames(rgb=rgb, depth=depth, dynamic_mask=moving[surface])


_SKY, _GROUND, _BACK, _SIDE, _CEILING, _FIRST_OBJECT = range(6)


def _cast_surroundings(world: World, eye: list[np.ndarray], ray: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Depth [T, H, W] and surface index of ground, walls and sky."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if world.indoor:
            left, right = world.room_x
            wall = np.where(ray[0] > 0, np.float32(right), np.float32(left))
            far = np.where(np.abs(ray[0]) > _PARALLEL, (wall - eye[0]) / ray[0], _FAR)
            depth, surface = far.astype(np.float32), np.full(far.shape, _SIDE, dtype=np.int8)
            ceiling = np.float32(-world.room_height)
            level = np.where(np.abs(ray[1]) > _PARALLEL, (np.where(ray[1] > 0, 0, ceiling) - eye[1]) / ray[1], _FAR)
            hit = level < depth
            np.copyto(depth, level, where=hit)
            np.copyto(surface, np.where(ray[1] > 0, np.int8(_GROUND), np.int8(_CEILING)), where=hit)
        else:
            radius = np.float32(world.sky_radius)
            a = ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2
            b = eye[0] * ray[0] + eye[1] * ray[1] + eye[2] * ray[2]
            c = eye[0] ** 2 + eye[1] ** 2 + eye[2] ** 2 - radius**2
            depth = (-b + np.sqrt(b * b - a * c)) / a
            surface = np.full(depth.shape, _SKY, dtype=np.int8)
            level = np.where(ray[1] > _PARALLEL, -eye[1] / ray[1], _FAR)
            hit = level < depth
            np.copyto(depth, level, where=hit)
            surface[hit] = _GROUND
        if world.wall_z is not None:
            wall = np.where(ray[2] > _PARALLEL, (np.float32(world.wall_z) - eye[2]) / ray[2], _FAR)
            hit = wall < depth
            if not world.indoor:
                hit &= eye[1] + wall * ray[1] > -np.float32(world.room_height)
            np.copyto(depth, wall, where=hit)
            surface[hit] = _BACK
    return depth, surface


def _pose_object(world_object: WorldObject, time: np.ndarray) -> _PosedObject:
    """An object with its poses at `time` [T]."""
    center, yaw = world_object.pose(time)
    half = world_object.half
    radius = (
        half[0]
        if world_object.shape == "sphere"
        else np.hypot(half[0], half[1])
        if world_object.shape == "cylinder"
        else np.linalg.norm(half)
    )
    return _PosedObject(
        world_object=world_object,
        center=center.astype(np.float32),
        cos=np.cos(yaw).astype(np.float32),
        sin=np.sin(yaw).astype(np.float32),
        radius=float(radius),
    )


def bounds_in_image(
    center: np.ndarray, radius: float, pose: np.ndarray, focal: float, height: int, width: int
) -> tuple[slice, slice] | None:
    """Rows and columns that cover a sphere with `center` [T, 3] in all frames; None if it is never in view."""
    offset = np.einsum("tji,tj->ti", pose[:, :3, :3], center - pose[:, :3, 3])  # [T, 3] in the camera frame
    near = offset[:, 2] - radius
    if near.max() <= 0.05:
        return None
    if near.min() <= 0.05:
        return slice(0, height), slice(0, width)
    # The silhouette of a sphere is within radius / (z - radius) of its center's projection, plus the parallax of z.
    x, y = offset[:, 0] / offset[:, 2], offset[:, 1] / offset[:, 2]
    reach = radius / near * np.sqrt(1 + x**2 + y**2)
    left, right = (x - reach).min() * focal + (width - 1) / 2, (x + reach).max() * focal + (width - 1) / 2
    top, bottom = (y - reach).min() * focal + (height - 1) / 2, (y + reach).max() * focal + (height - 1) / 2
    if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
        return None
    return (slice(max(0, int(top)), min(height, int(bottom) + 2)), slice(max(0, int(left)), min(width, int(right) + 2)))


def _cast_object(
    item: _PosedObject,
    window: tuple[slice, slice],
    eye: list[np.ndarray],
    ray: list[np.ndarray],
    depth: np.ndarray,
    surface: np.ndarray,
    index: int,
) -> None:
    """Intersect one object inside its window; write nearer hits to `depth` and `surface` in place."""
    rows, columns = window
    part = (slice(None), rows, columns)
    d = [component[part] for component in ray]
    o = [eye[i] - item.center[:, i, None, None] for i in range(3)]
    frame = np.arange(len(item.center))[:, None, None]
    hit = _intersect(item, o, d, frame)
    nearer = (hit > 0.05) & (hit < depth[part])
    np.copyto(depth[part], hit, where=nearer)
    surface[part][nearer] = _FIRST_OBJECT + index


def _intersect(item: _PosedObject, o: list[np.ndarray], d: list[np.ndarray], frame: np.ndarray) -> np.ndarray:
    """Smallest ray parameter of a hit, `_FAR` without a hit; `o` is relative to the object's center."""
    half = item.world_object.half.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        if item.world_object.shape == "sphere":
            a = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
            b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
            c = o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - half[0] ** 2
            root = b * b - a * c
            return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, _FAR)
        if item.world_object.shape == "cylinder":
            top, bottom = (-half[1] - o[1]) / d[1], (half[1] - o[1]) / d[1]
            a = d[0] ** 2 + d[2] ** 2
            b = o[0] * d[0] + o[2] * d[2]
            root = b * b - a * (o[0] ** 2 + o[2] ** 2 - half[0] ** 2)
            side = np.sqrt(np.maximum(root, 0))
            enter = np.maximum((-b - side) / a, np.minimum(top, bottom))
            leave = np.minimum((-b + side) / a, np.maximum(top, bottom))
            return np.where((root > 0) & (enter < leave), enter, _FAR)
        ox, oz = item.to_object_axes(o[0], o[2], frame)
        dx, dz = item.to_object_axes(d[0], d[2], frame)
        enter, leave = None, None
        for origin, direction, extent in ((ox, dx, half[0]), (o[1], d[1], half[1]), (oz, dz, half[2])):
            one, two = (-extent - origin) / direction, (extent - origin) / direction
            low, high = np.minimum(one, two), np.maximum(one, two)
            enter = low if enter is None else np.maximum(enter, low)
            leave = high if leave is None else np.minimum(leave, high)
        return np.where(enter < leave, enter, _FAR)


def _shade(
    world: World,
    posed: list[_PosedObject],
    eye: list[np.ndarray],
    ray: list[np.ndarray],
    depth: np.ndarray,
    surface: np.ndarray,
    focal: float,
) -> np.ndarray:
    """Shaded colors [T, H, W, 3] uint8 of the visible surfaces."""
    shape = depth.shape
    per_frame = shape[1] * shape[2]
    surface = surface.reshape(-1)
    point = [(eye[i] + depth * ray[i]).reshape(-1) for i in range(3)]
    footprint = depth.reshape(-1) * np.float32(1 / focal)
    light = world.light.astype(np.float32)
    color = np.zeros((surface.size, 3), dtype=np.float32)
    lambert = np.zeros(surface.size, dtype=np.float32)
    level_normals = {_GROUND: (0.0, -1.0, 0.0), _BACK: (0.0, 0.0, -1.0), _CEILING: (0.0, 1.0, 0.0)}
    for kind in (_GROUND, _BACK, _SIDE, _CEILING):
        at = np.flatnonzero(surface == kind)
        if at.size == 0:
            continue
        texture = world.ground if kind == _GROUND else world.walls
        x, y, z = point[0][at], point[1][at], point[2][at]
        color[at] = texture_color(texture, x, y, z, footprint[at])
        if kind == _SIDE:
            lambert[at] = np.where(x < 0, light[0], -light[0])
        else:
            lambert[at] = float(np.dot(level_normals[kind], light))
        if kind == _CEILING:
            color[at] *= np.float32(0.85)
    for index, item in enumerate(posed):
        at = np.flatnonzero(surface == _FIRST_OBJECT + index)
        if at.size == 0:
            continue
        frame = at // per_frame
        x, y, z = (point[i][at] - item.center[frame, i] for i in range(3))
        x, z = item.to_object_axes(x, z, frame)
        color[at] = texture_color(item.world_object.texture, x, y, z, footprint[at])
        lx, lz = item.to_object_axes(light[0], light[2], frame)
        lambert[at] = _cosine_to_light(item, x, y, z, lx, light[1], lz)
    lit = np.maximum(lambert, 0)
    candidates = np.flatnonzero((lambert > 0.02) & (surface != _SKY))
    lit[candidates] *= 1 - np.float32(0.75) * _shadow(
        posed, [component[candidates] for component in point], candidates // per_frame, light
    )
    ambient = np.float32(world.ambient)
    # Surfaces that face away from the light keep slight directional shading, so that the sides of a box differ.
    shade = ambient + (1 - ambient) * lit + np.float32(0.10) * np.minimum(lambert, 0)
    color *= shade[:, None]
    at = np.flatnonzero(surface == _SKY)
    if at.size:
        up = np.clip(-(point[1][at]) / np.float32(world.sky_radius) * 1.8, 0, 1)[:, None]
        zenith, horizon = (np.array(c, dtype=np.float32) for c in world.sky)
        color[at] = horizon + up * (zenith - horizon)
    return (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(*shape, 3)


def _cosine_to_light(
    item: _PosedObject, x: np.ndarray, y: np.ndarray, z: np.ndarray, lx: np.ndarray, ly: float, lz: np.ndarray
) -> np.ndarray:
    """Cosine between the surface normal and the light, in the frame of the object."""
    half = item.world_object.half.astype(np.float32)
    if item.world_object.shape == "sphere":
        return (x * lx + y * ly + z * lz) / half[0]
    if item.world_object.shape == "cylinder":
        cap = np.abs(y) > half[1] * np.float32(0.999)
        return np.where(cap, np.sign(y) * ly, (x * lx + z * lz) / half[0])
    ax, ay, az = np.abs(x) / half[0], np.abs(y) / half[1], np.abs(z) / half[2]
    return np.where((ax >= ay) & (ax >= az), np.sign(x) * lx, np.where(ay >= az, np.sign(y) * ly, np.sign(z) * lz))


def _shadow(posed: list[_PosedObject], point: list[np.ndarray], frame: np.ndarray, light: np.ndarray) -> np.ndarray:
    """1 where an object occludes the light, else 0; [N] float32."""
    shadow = np.zeros(frame.size, dtype=np.float32)
    for item in posed:
        o = [point[i] - item.center[frame, i] for i in range(3)]
        along = o[0] * light[0] + o[1] * light[1] + o[2] * light[2]
        square = o[0] ** 2 + o[1] ** 2 + o[2] ** 2
        near = np.flatnonzero((along < item.radius) & (square - along**2 < item.radius**2) & (shadow == 0))
        if near.size == 0:
            continue
        start = [o[i][near] + np.float32(2e-3) * light[i] for i in range(3)]
        hit = _intersect(item, start, [np.broadcast_to(c, near.shape) for c in light], frame[near])
        shadow[near[(hit > 1e-2) & (hit < _FAR)]] = 1.0
    return shadow


def texture_color(texture: Texture, x: np.ndarray, y: np.ndarray, z: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Color [N, 3] of a solid texture at points in the frame of the object."""
    first, second = np.array(texture.first, dtype=np.float32), np.array(texture.second, dtype=np.float32)
    if texture.pattern == "plain":
        return np.broadcast_to(first, (x.size, 3))
    axes = texture.axes.astype(np.float32)
    tau = np.float32(2 * np.pi)

    def wave(i: int, stretch: float = 1.0) -> np.ndarray:
        """Sine wave number `i` of the texture, its frequency multiplied by `stretch`."""
        return np.sin(
            tau * np.float32(stretch) * (axes[i, 0] * x + axes[i, 1] * y + axes[i, 2] * z)
            + np.float32(texture.phases[i])
        )

    frequency = np.float32(np.linalg.norm(texture.axes[0]))
    if texture.pattern == "gradient":
        value, frequency = wave(0, 0.35), frequency * np.float32(0.35)
    elif texture.pattern == "stripes":
        value = np.tanh(2.5 * wave(0))
    elif texture.pattern == "checks":
        value = (
            np.tanh(4 * wave(0) * wave(1))
            if abs(axes[2, 1]) > 0 and np.ptp(y) < 1e-3
            else np.tanh(4 * wave(0) * wave(2))
        )
    else:
        value = (wave(0) + wave(1, 1.3) + wave(2, 0.7)) / 2
    fade = np.exp(-((np.float32(4.0) * frequency * footprint) ** 2))
    mix = np.clip(0.5 + 0.5 * value * fade, 0, 1)[:, None]
    return first + mix * (second - first)
