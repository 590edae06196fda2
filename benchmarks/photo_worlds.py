"""Static and moving worlds whose surfaces carry photographs, cast by rays of any camera, for `rendered_videos`.

A world is a room, a courtyard or a street of boxes and spheres, in meters, y down. The photographs are the images in
the package of scikit-image (public domain or CC0, see `skimage/data/README.txt`), hung on brick, gravel and grass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

TEXTURE_SIZE = 1024
LEVELS = 7
_MISS = np.float32(1e9)
_SKY = -1
_POSTERS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "hubble_deep_field.jpg")
_MATERIALS = ("brick.png", "gravel.png", "grass.png")
_NUM_TEXTURES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Solid:
    """A textured box, sphere, or shell (a box seen from inside) that moves at constant speed."""

    shape: str
    center: np.ndarray  # [3] at time 0
    half: np.ndarray  # [3]; a sphere has equal values
    yaw: float = 0.0
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] meters per second
    spin: float = 0.0  # radians per second
    bounce: float = 0.0  # height in meters of its hops, one a second
    texture: int = 0
    offset: tuple[float, float] = (0.0, 0.0)  # of the texture, in texels
    density: float = 200.0  # texels per meter
    open_top: bool = False

    @property
    def moves(self) -> bool:
        """Whether the solid moves."""
        return bool(np.any(self.velocity)) or self.spin != 0 or self.bounce != 0

    def pose(self, time: float) -> tuple[np.ndarray, float]:
        """Center [3] and yaw at a time in seconds."""
        hop = np.array([0.0, -self.bounce * abs(np.sin(np.pi * time)), 0.0])
        return self.center + self.velocity * time + hop, self.yaw + self.spin * time


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoWorld:
    """Solids and their textures."""

    solids: tuple[Solid, ...]
    textures: Textures

    def cast(
        self, ray: np.ndarray, camera_to_world: np.ndarray, time: float, *, focal: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a camera sees along its rays.

        Args:
            ray: [H, W, 3] float32 in the camera's frame with z = 1.
            camera_to_world: [4, 4], in the frame of the world.
            time: seconds.
            focal: focal length in pixels, for the resolution of textures; None skips colors.

        Returns:
            Depth z [H, W] float32 (NaN in the sky), dynamic mask [H, W], and colors [H, W, 3] float32 in 0..255 (empty
            without `focal`).
        """
        rotation = camera_to_world[:3, :3].astype(np.float32)
        direction = ray @ rotation.T
        eye = camera_to_world[:3, 3]
        depth = np.full(ray.shape[:2], _MISS, np.float32)
        surface = np.full(ray.shape[:2], _SKY, np.int16)
        for index, solid in enumerate(self.solids):
            hit = _intersect(solid, eye, direction, time)
            nearer = hit < depth
            depth[nearer] = hit[nearer]
            surface[nearer] = index
        moving = np.array([*(solid.moves for solid in self.solids), False])  # `_SKY` is the last
        color = np.empty((0, 0, 3), np.float32)
        if focal is not None:
            color = self._colors(eye, direction, depth, surface, time, focal)
        depth[surface == _SKY] = np.nan
        return depth, moving[surface], color

    def _colors(
        self,
        eye: np.ndarray,
        direction: np.ndarray,
        depth: np.ndarray,
        surface: np.ndarray,
        time: float,
        focal: float,
    ) -> np.ndarray:
        """Shaded colors [H, W, 3] float32 in 0..255."""
        flat_surface = surface.reshape(-1)
        flat_depth, flat_direction = depth.reshape(-1), direction.reshape(-1, 3)
        u, v = np.zeros(flat_depth.size, np.float32), np.zeros(flat_depth.size, np.float32)
        texels = np.ones(flat_depth.size, np.float32)  # texels per pixel
        shade = np.ones(flat_depth.size, np.float32)
        texture = np.zeros(flat_depth.size, np.int32)
        for index, solid in enumerate(self.solids):
            at = np.flatnonzero(flat_surface == index)
            if at.size == 0:
                continue
            center, yaw = solid.pose(time)
            point = (eye - center).astype(np.float32) + flat_depth[at, None] * flat_direction[at]
            u[at], v[at], normal = _texture_coordinates(solid, _turned(point, yaw))
            cosine = np.abs(np.einsum("nc,nc->n", normal, _turned(flat_direction[at], yaw)))
            cosine /= np.linalg.norm(flat_direction[at], axis=1)
            texels[at] = solid.density * flat_depth[at] / focal / np.sqrt(np.maximum(cosine, 0.1))
            light = _turned(np.array([[0.35, -0.8, -0.48]], np.float32), yaw)[0]
            shade[at] = 0.8 + 0.2 * (normal @ light)
            texture[at] = solid.texture
        color = self.textures.sample(texture, u, v, texels) * shade[:, None]
        at = np.flatnonzero(flat_surface == _SKY)
        up = np.clip(-flat_direction[at, 1] / np.linalg.norm(flat_direction[at], axis=1), 0, 1)[:, None]
        color[at] = np.array([205, 215, 225], np.float32) - up * np.array([90, 60, 15], np.float32)
        return color.reshape(*depth.shape, 3)


def _turned(vector: np.ndarray, yaw: float) -> np.ndarray:
    """Vectors [..., 3] in the axes of a solid that is turned by `yaw` about y."""
    cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], axis=-1)


def _intersect(solid: Solid, eye: np.ndarray, direction: np.ndarray, time: float) -> np.ndarray:
    """Ray parameter [H, W] of the first hit in front of the camera, `_MISS` without one."""
    center, yaw = solid.pose(time)
    o = _turned((eye - center).astype(np.float32), yaw)
    half = solid.half.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if solid.shape == "sphere":
            a = np.einsum("hwc,hwc->hw", direction, direction)
            b = direction @ (eye - center).astype(np.float32)
            root = b * b - a * (o @ o - half[0] ** 2)
            hit = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, _MISS)
            return np.where(hit > 0, hit, _MISS)
        cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
        axes = (cos * x - sin * z, y, sin * x + cos * z)
        inverse = [1 / axis for axis in axes]
        if solid.shape == "shell":
            exits = [np.maximum((-half[i] - o[i]) * inverse[i], (half[i] - o[i]) * inverse[i]) for i in range(3)]
            side = np.minimum(exits[0], exits[2])
            hit = np.minimum(side, exits[1])
            return np.where((side > exits[1]) & (y < 0), _MISS, hit) if solid.open_top else hit
        first, last = None, None
        for i in range(3):
            one, two = (-half[i] - o[i]) * inverse[i], (half[i] - o[i]) * inverse[i]
            low, high = np.minimum(one, two), np.maximum(one, two)
            first = low if first is None else np.maximum(first, low)
            last = high if last is None else np.minimum(last, high)
        assert first is not None and last is not None
        return np.where((first < last) & (first > 0), first, _MISS)


def _texture_coordinates(solid: Solid, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texel coordinates u and v [N] and unit normals [N, 3] at points [N, 3] in the axes of the solid."""
    du, dv = solid.offset
    if solid.shape == "sphere":
        normal = p / np.float32(solid.half[0])
        longitude, latitude = np.arctan2(p[:, 0], p[:, 2]), np.arcsin(np.clip(normal[:, 1], -1, 1))
        scale = np.float32(solid.half[0] * solid.density)
        return longitude * scale + np.float32(du), latitude * scale + np.float32(dv), normal
    ratio = np.abs(p) / solid.half.astype(np.float32)
    axis = ratio.argmax(axis=1)
    rows = np.arange(len(p))
    normal = np.zeros_like(p)
    inward = -1 if solid.shape == "shell" else 1
    normal[rows, axis] = np.sign(p[rows, axis]) * inward
    side = np.sign(p[rows, axis])
    across = np.where(axis == 0, p[:, 2], p[:, 0])
    along = np.where(axis == 1, p[:, 2], p[:, 1])
    # Each of the six faces shows another part of the texture.
    shift = (axis * 2 + (side > 0)).astype(np.float32) * np.float32(0.31 * TEXTURE_SIZE)
    density = np.float32(solid.density)
    return across * density + shift + np.float32(du), along * density + shift * np.float32(0.7) + np.float32(dv), normal


class Textures:
    """Mirrored textures with their scaled-down versions, sampled trilinearly."""

    def __init__(self, images: list[np.ndarray]) -> None:
        """Build the scaled-down versions of square images [S, S, 3] uint8."""
        self._sizes = np.array([TEXTURE_SIZE >> level for level in range(LEVELS)], np.int32)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes.astype(np.int64) ** 2)[:-1]]).astype(np.int32)
        self._length = int((self._sizes.astype(np.int64) ** 2).sum())
        self._texels = np.concatenate(
            [
                cv2.resize(image, (int(size), int(size)), interpolation=cv2.INTER_AREA).reshape(-1, 3)
                for image in images
                for size in self._sizes
            ]
        )

    def sample(self, texture: np.ndarray, u: np.ndarray, v: np.ndarray, texels: np.ndarray) -> np.ndarray:
        """Colors [N, 3] float32 at texel coordinates; `texels` is the footprint of a pixel."""
        level = np.clip(np.log2(np.maximum(texels, 1)), 0, LEVELS - 1.001).astype(np.float32)
        lower = level.astype(np.int32)
        blend = (level - lower)[:, None]
        return self._bilinear(texture, u, v, lower) * (1 - blend) + self._bilinear(texture, u, v, lower + 1) * blend

    def _bilinear(self, texture: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Colors [N, 3] float32 at one level per sample."""
        size, scale = self._sizes[level], np.exp2(-level).astype(np.float32)
        base = texture * self._length + self._starts[level]
        x, y = u * scale - np.float32(0.5), v * scale - np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        right, down = (x - left)[:, None], (y - top)[:, None]
        columns = [_mirror(left.astype(np.int32) + i, size) for i in (0, 1)]
        rows = [base + _mirror(top.astype(np.int32) + i, size) * size for i in (0, 1)]
        texel = self._texels
        upper = texel[rows[0] + columns[0]] * (1 - right) + texel[rows[0] + columns[1]] * right
        lower = texel[rows[1] + columns[0]] * (1 - right) + texel[rows[1] + columns[1]] * right
        mixed: np.ndarray = upper * (1 - down) + lower * down
        return mixed


def _mirror(index: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Indices of a texture that is repeated in mirror images; sizes are powers of two."""
    index = index & (2 * size - 1)
    return np.minimum(index, 2 * size - 1 - index)


def photo_textures(rng: np.random.Generator) -> Textures:
    """Textures of a world: brick, gravel or grass in changing tones with photographs on it."""
    images = []
    for index in range(_NUM_TEXTURES):
        material = photograph(_MATERIALS[index % len(_MATERIALS)])
        canvas = np.tile(np.concatenate([material, material[:, ::-1]], axis=1), (2, 1, 1)).astype(np.float32)
        tone = cv2.resize(rng.uniform(0.6, 1.3, (5, 5)).astype(np.float32), canvas.shape[1::-1])[..., None]
        canvas = np.clip(canvas * tone * rng.uniform(0.8, 1.1, 3).astype(np.float32), 0, 255).astype(np.uint8)
        for _ in range(9):
            poster = photograph(_POSTERS[rng.integers(len(_POSTERS))])
            side = int(rng.integers(160, 400))
            poster = cv2.resize(poster, (side, int(side * poster.shape[0] / poster.shape[1])), interpolation=3)
            poster = poster[:, ::-1] if rng.random() < 0.5 else poster
            top, left = rng.integers(0, TEXTURE_SIZE - poster.shape[0]), rng.integers(0, TEXTURE_SIZE - side)
            canvas[top : top + poster.shape[0], left : left + side] = poster
        images.append(canvas)
    return Textures(images)


@lru_cache(maxsize=16)
def photograph(name: str) -> np.ndarray:
    """An image [H, W, 3] uint8 in the package of scikit-image; it is read from the file, without its downloader.

    Raises:
        FileNotFoundError: scikit-image is not installed, or it does not contain the image.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-image: expected the package, it is not installed: pip install scikit-image")
    return np.asarray(Image.open(Path(spec.origin).parent / "data" / name).convert("RGB"))
