import numpy as np
import pytest

from fourdnex.scene import Scene4D

WALL, BOX = (40, 120, 200), (220, 60, 20)


@pytest.fixture
def moving_box() -> Scene4D:
    """A wall at depth 4 and a box at depth 2, 3 pixels wide, at columns 2, 6 and 10 of frames 0, 1 and 2."""
    rgb = np.tile(np.array(WALL, np.uint8), (3, 9, 16, 1))
    depth = np.full((3, 9, 16), 4.0)
    for t in range(3):
        rgb[t, 3:6, 2 + 4 * t : 5 + 4 * t], depth[t, 3:6, 2 + 4 * t : 5 + 4 * t] = BOX, 2.0
    intrinsics = np.array([[16.0, 0, 7.5], [0, 16, 4], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=intrinsics, camera_to_world=np.tile(np.eye(4), (3, 1, 1)))
