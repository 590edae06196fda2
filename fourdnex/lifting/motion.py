"""Dense motion of the photograph's pixels from the tracks of the coarse first frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fourdnex.tracks import Tracks

_MAX_RIGID_RESIDUAL = 0.03
"""Maximum median residual of a rigid motion, relative to depth."""
MIN_MOTION = 0.1
"""Minimum displacement of a moving object, relative to its depth."""
_MIN_TRACKS = 20
"""Minimum number of tracks of an object; smaller objects are treated as static."""
_SAME_SURFACE = 1.15
"""Maximum depth ratio of neighboring pixels of one object."""


class FirstFrameMotion:
    """Motion of the photograph's pixels [H, W] from tracks of the coarse first frame [h, w], with any stride.

    Connected moving pixels form an object. Its motion is rigid if that fits its tracks, otherwise an interpolated
    motion field.

    Args:
        tracks: of a scene of h x w pixels.
        coarse: [h, w], depth of the scene's first frame.
        points: [3, H, W], points of the photograph's pixels in the first camera's frame.
    """

    def __init__(self, tracks: Tracks, coarse: np.ndarray, points: np.ndarray) -> None:
        first = tracks.first_frame == 0
        rows, columns = tracks.pixel[first].T
        # Tracks with a stride start at every n-th pixel of every n-th row: objects are segmented on that grid.
        stride = max(1, int(np.gcd.reduce(np.concatenate([rows, columns]))))
        self._rows, self._columns = rows // stride, columns // stride
        sizes = coarse.shape
        coarse = coarse[::stride, ::stride]
        self._positions, self._visible = tracks.positions[first], tracks.visible[first]
        moves = np.zeros(coarse.shape, bool)
        moves[self._rows, self._columns] = tracks.moves[first]
        objects = _segment_objects(moves, coarse)
        for index in range(1, int(objects.max()) + 1):
            if self._is_static(objects[self._rows, self._columns] == index):
                objects[objects == index] = 0
        self._object_of_track = objects[self._rows, self._columns]
        fine = points[2]
        # Coordinates of fine pixels on the grid, whose points are the centers of coarse pixels 0, n, 2 n, ...
        self._coordinates = tuple(
            (((np.arange(size) + 0.5) * sides / size - 0.5) / stride).astype(np.float32)
            for size, sides in zip(fine.shape, sizes, strict=True)
        )
        self._objects = _upsample_labels(objects, coarse, fine, self._coordinates)  # [H, W], 0: static
        self._points, self._grid = points, coarse.shape
        self.static = self._objects == 0  # [H, W]
        self.count = int(objects.max())

    def at(self, t: int) -> np.ndarray:
        """Displacement [3, H, W] float32 since the first frame, in the first camera's frame; NaN if unknown."""
        motion = np.zeros_like(self._points)
        known = self.static.copy()
        for index in range(1, self.count + 1):
            tracks = (self._object_of_track == index) & self._visible[:, t]
            pixels = self._objects == index
            if tracks.sum() < _MIN_TRACKS or not pixels.any():
                continue
            before, after = self._positions[tracks, 0], self._positions[tracks, t]
            rotation, translation, residual = _fit_rigid_motion(before, after)
            if residual < _MAX_RIGID_RESIDUAL * float(np.median(before[:, 2])):
                points = self._points[:, pixels]
                motion[:, pixels] = rotation @ points + translation[:, None] - points
                known |= pixels
            else:
                field, weight = self._interpolate(tracks, after - before)
                covered = pixels & (weight > 0.1)
                motion[:, covered] = (field[covered] / weight[covered, None]).T
                known |= covered
        motion[:, ~known] = np.nan
        return motion

    def _is_static(self, tracks: np.ndarray) -> bool:
        """Whether the median displacement of an object's tracks [N] stays below `MIN_MOTION`, like model errors."""
        displacements = self._positions[tracks] - self._positions[tracks, :1]  # [N, T, 3]
        if not len(displacements):
            return True
        distance = np.linalg.norm(np.median(displacements, axis=0), axis=-1).max()
        return bool(distance < MIN_MOTION * np.median(self._positions[tracks, 0, 2]))

    def _interpolate(self, tracks: np.ndarray, displacements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted sum [H, W, 3] of the displacements [N, 3] of tracks around each pixel, and the weights [H, W]."""
        import cv2

        total, weight = np.zeros((*self._grid, 3), np.float32), np.zeros(self._grid, np.float32)
        total[self._rows[tracks], self._columns[tracks]] = displacements
        weight[self._rows[tracks], self._columns[tracks]] = 1
        row, column = (np.ascontiguousarray(grid) for grid in np.meshgrid(*self._coordinates, indexing="ij"))
        fields = [
            cv2.remap(
                cv2.GaussianBlur(values, (0, 0), 1.5), column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for values in (total, weight)
        ]
        return np.asarray(fields[0]), np.asarray(fields[1])


def _segment_objects(moves: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Label [h, w] connected moving pixels, split at depth edges; 0 is static, as are small objects."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    index = np.arange(moves.size).reshape(moves.shape)
    pairs = []
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        with np.errstate(invalid="ignore"):
            near, far = np.minimum(depth[before], depth[after]), np.maximum(depth[before], depth[after])
            connected = moves[before] & moves[after] & (far < _SAME_SURFACE * near)
        pairs.append(np.stack([index[before][connected], index[after][connected]]))
    i, j = np.concatenate(pairs, axis=1)
    _, label = connected_components(coo_matrix((np.ones(len(i)), (i, j)), shape=(moves.size, moves.size)), False)
    label = label.reshape(moves.shape)
    new_label = np.zeros(label.max() + 1, int)
    labels, sizes = np.unique(label[moves], return_counts=True)
    kept = labels[sizes >= _MIN_TRACKS]
    new_label[kept] = np.arange(1, len(kept) + 1)
    return np.where(moves, new_label[label], 0)


def _fit_rigid_motion(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Robust rotation [3, 3] and translation [3] between points [N, 3], and the median residual."""
    weight = np.ones(len(before))
    for _ in range(8):
        normalized = (weight / weight.sum())[:, None]
        a, b = (normalized * before).sum(axis=0), (normalized * after).sum(axis=0)
        u, _, vt = np.linalg.svd(((before - a) * normalized).T @ (after - b))
        sign = np.sign(np.linalg.det(vt.T @ u.T))
        rotation = vt.T @ np.diag([1.0, 1.0, sign]) @ u.T
        translation = b - rotation @ a
        residual = np.linalg.norm(before @ rotation.T + translation - after, axis=1)
        scale = max(float(np.median(residual)), 1e-9)
        weight = 1 / (1 + np.square(residual / (2 * scale)))
    return rotation, translation, float(np.median(residual))


def _upsample_labels(
    labels: np.ndarray, coarse: np.ndarray, fine: np.ndarray, coordinates: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Labels [H, W] of fine pixels: for each, the label of the nearby grid point with the most similar depth.

    Args:
        labels: on the grid.
        coarse: depth on the grid.
        fine: [H, W], depth of the fine pixels.
        coordinates: rows [H] and columns [W] of the fine pixels on the grid.
    """
    rows, columns = labels.shape
    row, column = (
        np.clip(axis.round().astype(int), 0, size - 1) for axis, size in zip(coordinates, (rows, columns), strict=True)
    )
    best, upsampled = np.full(fine.shape, np.inf, np.float32), np.zeros(fine.shape, labels.dtype)
    order = sorted(((i, j) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)), key=lambda p: p[0] ** 2 + p[1] ** 2)
    for dy, dx in order:
        i = np.clip(row + dy, 0, rows - 1)[:, None]
        j = np.clip(column + dx, 0, columns - 1)[None]
        with np.errstate(invalid="ignore"):
            # The distance penalty prefers nearer grid points of about equal depth.
            cost = np.abs(coarse[i, j] / fine - 1) + 0.02 * np.hypot(dy, dx)
            better = cost < best
        best[better] = cost[better]
        upsampled[better] = labels[i, j][better]
    return upsampled
