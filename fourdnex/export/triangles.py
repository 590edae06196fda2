"""Triangles between the pixels of a depth map, cut where depth jumps."""

import numpy as np

# The corners of a cell are 0 1 above 2 3. Its two triangles by either diagonal, counterclockwise in the image.
_BY_DIAGONAL = np.array([[[0, 2, 1], [1, 2, 3]], [[0, 2, 3], [0, 3, 1]]])  # [diagonal, triangle, corner]


def grid_triangles(depth: np.ndarray, edge: float) -> np.ndarray:
    """Two triangles a cell of four neighboring pixels of depth [H, W], but none over a hole (NaN) or a depth edge.

    A triangle is over an edge when its depths differ by more than `edge` times the nearest of them. Of a cell's two
    diagonals the one that keeps more triangles counts, then the one along which depth changes less: outlines follow
    the edge.

    Returns:
        [M, 3] int64 indices into the flattened map, cell by cell, counterclockwise seen from the camera.
    """
    index = np.arange(depth.size).reshape(depth.shape)
    cells = np.stack([part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])])
    z = depth.ravel()[cells]  # [4, cells]
    corners = z[_BY_DIAGONAL]  # [2, 2, 3, cells]
    near, far = corners.min(axis=2), corners.max(axis=2)
    whole = far - near <= edge * near  # [2, 2, cells]; false of NaN
    kept = whole.sum(axis=1)
    flatter = np.abs(z[0] - z[3]) < np.abs(z[1] - z[2])
    second = (kept[1] > kept[0]) | ((kept[1] == kept[0]) & flatter)
    triangles = np.where(second, cells[_BY_DIAGONAL[1]], cells[_BY_DIAGONAL[0]])  # [2, 3, cells]
    return triangles.transpose(2, 0, 1)[np.where(second, whole[1], whole[0]).T]
