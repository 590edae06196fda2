"""Ray intersections and normals of unit shapes within [-1, 1]^3, y down.

Rays and points are in the frame of the unit shape, one array per coordinate; the arrays broadcast. `MISS` is the ray
parameter of a ray without a hit.
"""

from __future__ import annotations

import numpy as np

MISS = np.float32(1e9)
Components = list[np.ndarray]

_SLANT = 1 / np.sqrt(5.0)
PLANES: dict[str, np.ndarray] = {
    # [K, 4]: normal and offset, n . p <= offset inside
    "prism": np.array(
        [[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, -1, 1], [2 * _SLANT, -_SLANT, 0, _SLANT], [-2 * _SLANT, -_SLANT, 0, _SLANT]]
    ),
    "pyramid": np.array(
        [
            [0, 1, 0, 1],
            [2 * _SLANT, -_SLANT, 0, _SLANT],
            [-2 * _SLANT, -_SLANT, 0, _SLANT],
            [0, -_SLANT, 2 * _SLANT, _SLANT],
            [0, -_SLANT, -2 * _SLANT, _SLANT],
        ]
    ),
}
"""Convex shapes as intersections of half-spaces."""


def intersect(shape: str, o: Components, d: Components, *, open_top: bool = False) -> np.ndarray:
    """Smallest ray parameter t at which o + t d enters the shape (a shell: leaves it); `MISS` without a hit.

    Args:
        shape: one of `solids.SHAPES`.
        o: ray origins, one array per coordinate.
        d: ray directions, one array per coordinate.
        open_top: of a shell: it has no ceiling.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        match shape:
            case "box":
                return _box(o, d)
            case "shell":
                return _shell(o, d, open_top)
            case "ellipsoid":
                a = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
                b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
                root = b * b - a * (o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - 1)
                return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, MISS)
            case "cylinder":
                return _cylinder(o, d)
            case "cone":
                return _cone(o, d)
        return _convex(PLANES[shape], o, d)


def surface_normal(shape: str, p: Components) -> Components:
    """Outward normals (a shell: inward) of the unit shape at surface points `p`, not normalized."""
    zero = np.zeros_like(p[0])
    if shape == "ellipsoid":
        return p
    if shape in ("box", "shell"):
        sign = 1 if shape == "box" else -1
        size = [np.abs(c) for c in p]
        x = (size[0] >= size[1]) & (size[0] >= size[2])
        y = ~x & (size[1] >= size[2])
        return [
            np.where(x, sign * np.sign(p[0]), zero),
            np.where(y, sign * np.sign(p[1]), zero),
            np.where(~x & ~y, sign * np.sign(p[2]), zero),
        ]
    if shape == "cylinder":
        cap = np.abs(p[1]) > 0.999
        return [np.where(cap, zero, p[0]), np.where(cap, np.sign(p[1]), zero), np.where(cap, zero, p[2])]
    if shape == "cone":
        cap = p[1] > 0.999
        return [
            np.where(cap, zero, p[0]),
            np.where(cap, np.float32(1), -np.float32(0.25) * (p[1] + 1)),
            np.where(cap, zero, p[2]),
        ]
    planes = PLANES[shape].astype(np.float32)
    distance = np.stack([n[0] * p[0] + n[1] * p[1] + n[2] * p[2] - n[3] for n in planes])
    chosen = planes[distance.argmax(axis=0)]
    return [chosen[..., 0], chosen[..., 1], chosen[..., 2]]


def _box(o: Components, d: Components) -> np.ndarray:
    """Slab test against [-1, 1]^3."""
    one, two = (-1 - o[0]) / d[0], (1 - o[0]) / d[0]
    first, last = np.minimum(one, two), np.maximum(one, two)
    for origin, direction in zip(o[1:], d[1:], strict=True):
        one, two = (-1 - origin) / direction, (1 - origin) / direction
        first, last = np.maximum(first, np.minimum(one, two)), np.minimum(last, np.maximum(one, two))
    return np.where(first < last, first, MISS)


def _shell(o: Components, d: Components, open_top: bool) -> np.ndarray:
    """Exit from [-1, 1]^3 of rays that start inside."""
    exits = [
        np.maximum((-1 - origin) / direction, (1 - origin) / direction) for origin, direction in zip(o, d, strict=True)
    ]
    side = np.minimum(exits[0], exits[2])
    last = np.minimum(side, exits[1])
    inside = (np.abs(o[0]) < 1) & (np.abs(o[1]) < 1) & (np.abs(o[2]) < 1)
    if open_top:
        inside = inside & ((side <= exits[1]) | (d[1] > 0))
    return np.where(inside, last, MISS)


def _cylinder(o: Components, d: Components) -> np.ndarray:
    """x^2 + z^2 = 1 for y in [-1, 1], with caps."""
    one, two = (-1 - o[1]) / d[1], (1 - o[1]) / d[1]
    a = np.maximum(d[0] ** 2 + d[2] ** 2, np.float32(1e-12))  # avoids a division by 0 for rays along the axis
    b = o[0] * d[0] + o[2] * d[2]
    root = b * b - a * (o[0] ** 2 + o[2] ** 2 - 1)
    side = np.sqrt(np.maximum(root, 0))
    first = np.maximum((-b - side) / a, np.minimum(one, two))
    last = np.minimum((-b + side) / a, np.maximum(one, two))
    return np.where((root > 0) & (first < last), first, MISS)


def _cone(o: Components, d: Components) -> np.ndarray:
    """x^2 + z^2 = ((y + 1) / 2)^2 for y in [-1, 1], with a base cap."""
    oy, dy = (o[1] + 1) / 2, d[1] / 2
    a = d[0] ** 2 + d[2] ** 2 - dy**2
    b = o[0] * d[0] + o[2] * d[2] - oy * dy
    c = o[0] ** 2 + o[2] ** 2 - oy**2
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    best = np.full(np.broadcast(o[0], d[0]).shape, MISS, np.float32)
    for sign in (-1, 1):
        t = (-b + sign * root) / a
        y = oy + t * dy
        good = (b * b > a * c) & (y >= 0) & (y <= 1) & (t > 0) & (t < best)
        best = np.where(good, t, best)
    t = (1 - o[1]) / d[1]
    good = ((o[0] + t * d[0]) ** 2 + (o[2] + t * d[2]) ** 2 <= 1) & (t > 0) & (t < best)
    return np.where(good, t, best)


def _convex(planes: np.ndarray, o: Components, d: Components) -> np.ndarray:
    """Intersection with half-spaces [K, 4], see `PLANES`."""
    shape = np.broadcast(o[0], d[0]).shape
    first, last = np.full(shape, -MISS), np.full(shape, MISS)
    for n in planes.astype(np.float32):
        along = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
        inside = n[3] - (n[0] * o[0] + n[1] * o[1] + n[2] * o[2])
        t = inside / along
        last = np.where((along == 0) & (inside < 0), -MISS, last)
        first = np.where(along < 0, np.maximum(first, t), first)
        last = np.where(along > 0, np.minimum(last, t), last)
    return np.where(first < last, first, MISS)
