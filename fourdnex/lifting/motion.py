"""How far the pixels of a fine first frame have moved, from tracks of a coarse one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fourdnex.tracks import Tracks

_RIGID = 0.03
"""Part of its depth by which the points of a thing may miss a rigid motion (median) for it to count as rigid."""
MIN_MOTION = 0.1
"""Part of its depth that a thing must go to count as moving."""
_LEAST = 20
"""Tracks that a thing has, and that its motion is taken from; fewer stand still with what is around them."""
_SAME_SURFACE = 1.15
"""Depths of neighboring pixels on one thing differ by less than this factor."""


class FirstFrameMotion:
    """Motion of the first frame's pixels [H, W], from the tracks of its coarse pixels [h, w] or a grid of them.

    Moving pixels that hang together are one thing. It moves as a rigid body where that explains its tracks, and
    otherwise as a smooth field through them.

    Args:
        tracks: of a scene of h x w pixels.
        coarse: depth [h, w] of its first frame.
        points: [3, H, W] of the fine first frame, in its camera's axes.
    """

    def __init__(self, tracks: Tracks, coarse: np.ndarray, points: np.ndarray) -> None:
        first = tracks.first_frame == 0
        rows, columns = tracks.pixel[first].T
        # Tracks with a stride start at every n-th pixel of every n-th row: the frame is looked at on that grid.
        stride = max(1, int(np.gcd.reduce(np.concatenate([rows, columns]))))
        self._rows, self._columns = rows // stride, columns // stride
        sizes = coarse.shape
        coarse = coarse[::stride, ::stride]
        self._positions, self._visible = tracks.positions[first], tracks.visible[first]
        moves = np.zeros(coarse.shape, bool)
        moves[self._rows, self._columns] = tracks.moves[first]
        things = _things(moves, coarse)
        for thing in range(1, int(things.max()) + 1):
            if self._stays(things[self._rows, self._columns] == thing):
                things[things == thing] = 0
        self._thing_of_track = things[self._rows, self._columns]
        fine = points[2]
        # Fine pixels in steps of the grid, whose points are the middles of coarse pixels 0, n, 2 n, ...
        self._places = tuple(
            (((np.arange(size) + 0.5) * sides / size - 0.5) / stride).astype(np.float32)
            for size, sides in zip(fine.shape, sizes, strict=True)
        )
        self._things = _of_nearest_surface(things, coarse, fine, self._places)  # [H, W], 0: stands still
        self._points, self._grid = points, coarse.shape
        self.still = self._things == 0  # [H, W]
        self.count = int(things.max())

    def at(self, t: int) -> np.ndarray:
        """Motion [3, H, W] float32 since the first frame, in its camera's axes; NaN where it is not known."""
        moved = np.zeros_like(self._points)
        known = self.still.copy()
        for thing in range(1, self.count + 1):
            tracks = (self._thing_of_track == thing) & self._visible[:, t]
            pixels = self._things == thing
            if tracks.sum() < _LEAST or not pixels.any():
                continue
            before, after = self._positions[tracks, 0], self._positions[tracks, t]
            rotation, shift, residual = _rigid_motion(before, after)
            if residual < _RIGID * float(np.median(before[:, 2])):
                own = self._points[:, pixels]
                moved[:, pixels] = rotation @ own + shift[:, None] - own
                known |= pixels
            else:
                field, weight = self._field(tracks, after - before)
                found = pixels & (weight > 0.1)
                moved[:, found] = (field[found] / weight[found, None]).T
                known |= found
        moved[:, ~known] = np.nan
        return moved

    def _stays(self, tracks: np.ndarray) -> bool:
        """Whether the tracks [N] of a thing go no farther than the model's errors may let them seem to."""
        steps = self._positions[tracks] - self._positions[tracks, :1]  # [N, T, 3]
        if not len(steps):
            return True
        way = np.linalg.norm(np.median(steps, axis=0), axis=-1).max()
        return bool(way < MIN_MOTION * np.median(self._positions[tracks, 0, 2]))

    def _field(self, tracks: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum [H, W, 3] of the steps [N, 3] of tracks around each pixel and their weight [H, W]."""
        import cv2

        total, weight = np.zeros((*self._grid, 3), np.float32), np.zeros(self._grid, np.float32)
        total[self._rows[tracks], self._columns[tracks]] = steps
        weight[self._rows[tracks], self._columns[tracks]] = 1
        row, column = (np.ascontiguousarray(place) for place in np.meshgrid(*self._places, indexing="ij"))
        fields = [
            cv2.remap(
                cv2.GaussianBlur(values, (0, 0), 1.5), column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for values in (total, weight)
        ]
        return np.asarray(fields[0]), np.asarray(fields[1])


def _things(moves: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Number [h, w] of the moving thing that a pixel belongs to, from 1 on; 0 where it stands still."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    index = np.arange(moves.size).reshape(moves.shape)
    pairs = []
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        with np.errstate(invalid="ignore"):
            near, far = np.minimum(depth[before], depth[after]), np.maximum(depth[before], depth[after])
            joined = moves[before] & moves[after] & (far < _SAME_SURFACE * near)
        pairs.append(np.stack([index[before][joined], index[after][joined]]))
    i, j = np.concatenate(pairs, axis=1)
    _, label = connected_components(coo_matrix((np.ones(len(i)), (i, j)), shape=(moves.size, moves.size)), False)
    label = label.reshape(moves.shape)
    numbers = np.zeros(label.max() + 1, int)
    names, sizes = np.unique(label[moves], return_counts=True)
    kept = names[sizes >= _LEAST]
    numbers[kept] = np.arange(1, len(kept) + 1)
    return np.where(moves, numbers[label], 0)


def _rigid_motion(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3] and shift [3] that take points [N, 3] to others, robustly, and the median distance left."""
    weight = np.ones(len(before))
    for _ in range(8):
        share = (weight / weight.sum())[:, None]
        a, b = (share * before).sum(axis=0), (share * after).sum(axis=0)
        u, _, vt = np.linalg.svd(((before - a) * share).T @ (after - b))
        sign = np.sign(np.linalg.det(vt.T @ u.T))
        rotation = vt.T @ np.diag([1.0, 1.0, sign]) @ u.T
        shift = b - rotation @ a
        off = np.linalg.norm(before @ rotation.T + shift - after, axis=1)
        scale = max(float(np.median(off)), 1e-9)
        weight = 1 / (1 + np.square(off / (2 * scale)))
    return rotation, shift, float(np.median(off))


def _of_nearest_surface(
    values: np.ndarray, coarse: np.ndarray, fine: np.ndarray, places: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Values [H, W] of the grid points around with the depth that is nearest to the fine one's.

    `places` are the fine rows [H] and columns [W] in steps of the grid.
    """
    rows, columns = values.shape
    row, column = (
        np.clip(place.round().astype(int), 0, size - 1) for place, size in zip(places, (rows, columns), strict=True)
    )
    best, chosen = np.full(fine.shape, np.inf, np.float32), np.zeros(fine.shape, values.dtype)
    order = sorted(((i, j) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)), key=lambda p: p[0] ** 2 + p[1] ** 2)
    for down, across in order:
        i = np.clip(row + down, 0, rows - 1)[:, None]
        j = np.clip(column + across, 0, columns - 1)[None]
        with np.errstate(invalid="ignore"):
            # A nearer pixel is preferred to one whose depth fits hardly better.
            off = np.abs(coarse[i, j] / fine - 1) + 0.02 * np.hypot(down, across)
            better = off < best
        best[better] = off[better]
        chosen[better] = values[i, j][better]
    return chosen
