"""Triangulation of a depth map, without triangles across depth edges."""

import numpy as np

# The corners of a cell are 0 1 above 2 3. Its two triangles for either diagonal, counterclockwise in the image.
_BY_DIAGONAL = np.array([[[0, 2, 1], [1, 2, 3]], [[0, 2, 3], [0, 3, 1]]])  # [diagonal, triangle, corner]


def grid_triangles(depth: np.ndarray, edge: float) -> np.ndarray:
    """Two triangles per cell of four neighboring pixels of depth [H, W], except across holes (NaN) and depth edges.

    A triangle crosses an edge if its depths differ by more than `edge` times the smallest of them. Of a cell's two
    diagonals, the one that keeps more triangles is chosen, then the one along which depth changes less, so that
    silhouettes follow the edge.

    Returns:
        [M, 3] int64 indices into the flattened map, cell by cell, counterclockwise when seen from the camera.
    """
    index = np.arange(depth.size).reshape(depth.shape)
    cells = np.stack([part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])])
    z = depth.ravel()[cells]  # [4, cells]
    corners = z[_BY_DIAGONAL]  # [2, 2, 3, cells]
    near, far = corners.min(axis=2), corners.max(axis=2)
    valid = far - near <= edge * near  # [2, 2, cells]; False for NaN
    kept = valid.sum(axis=1)
    flatter = np.abs(z[0] - z[3]) < np.abs(z[1] - z[2])
    second = (kept[1] > kept[0]) | ((kept[1] == kept[0]) & flatter)
    triangles = np.where(second, cells[_BY_DIAGONAL[1]], cells[_BY_DIAGONAL[0]])  # [2, 3, cells]
    return triangles.transpose(2, 0, 1)[np.where(second, valid[1], valid[0]).T]
