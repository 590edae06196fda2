import numpy as np
import pytest

from fourdnex.scene import Scene4D

WALL, BOX = (40, 120, 200), (220, 60, 20)


@pytest.fixture
def passing_box() -> Scene4D:
    """A wall 4 away and a box 2 away, 3 pixels wide, that stands at columns 2, 6 and 10 of frames 0, 1 and 2."""
    rgb = np.tile(np.array(WALL, np.uint8), (3, 9, 16, 1))
    depth = np.full((3, 9, 16), 4.0)
    for t in range(3):
        rgb[t, 3:6, 2 + 4 * t : 5 + 4 * t], depth[t, 3:6, 2 + 4 * t : 5 + 4 * t] = BOX, 2.0
    lens = np.array([[16.0, 0, 7.5], [0, 16, 4], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=lens, camera_to_world=np.tile(np.eye(4), (3, 1, 1)))
