"""A tiny scene with known values: a sloped plane, a depth edge, a hole, and a moving and rotating camera."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fourdnex.scene import Scene4D

FRAMES, HEIGHT, WIDTH = 3, 8, 12


@pytest.fixture
def scene() -> Scene4D:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = np.stack([2 + 0.02 * rows + 0.01 * columns + 0.1 * t for t in range(FRAMES)])
    depth[:, :, 8:] += 3  # a depth edge between columns 7 and 8
    depth[1, 2, 3] = np.nan
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("yx", [[0, 0], [10, 4], [20, -7]], degrees=True).as_matrix()
    poses[:, :3, 3] = [[0, 0, 0], [0.3, -0.1, 0.05], [0.6, 0.2, -0.1]]
    confidence = np.ones((FRAMES, HEIGHT, WIDTH))
    confidence[0, 0, :5] = 0.2
    return Scene4D(
        rgb=rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8),
        depth=depth,
        # The principal point is not the image center (5.5, 3.5), and the focal lengths differ.
        intrinsics=np.array([[15.0, 0, 5.1], [0, 14, 3.9], [0, 0, 1]]),
        camera_to_world=poses,
        confidence=confidence,
        fps=12,
        name="kleine Szene",
        provenance={"adapter_digest": "abc", "bild": "Müller.png"},
    )


@pytest.fixture
def pixel_grid():
    """A function that gives the pixels with depth of a frame, [N, 2] (x, y) in row-major order."""

    def grid(scene: Scene4D, t: int) -> np.ndarray:
        y, x = np.nonzero(np.isfinite(scene.depth[t]))
        return np.stack([x, y], axis=1)

    return grid
