"""A small scene with exact ground truth: a textured wall, and a box in front of it that moves to the right."""

import numpy as np

from fourdnex.scene import Scene4D

FRAMES, HEIGHT, WIDTH = 6, 40, 60
SPEED = 2  # pixels per frame


SMALL_WALL, SMALL_BOX = (40, 120, 200), (220, 60, 20)


def moving_box_scene() -> Scene4D:
    """A static camera with focal length 50, a wall at depth 4 and a box of 12 x 12 pixels at depth 2."""
    rng = np.random.default_rng(0)
    smooth = lambda size: np.kron(rng.integers(40, 216, (*[n // 4 + 1 for n in size], 3)), np.ones((4, 4, 1)))  # noqa: E731
    wall, box = smooth((HEIGHT, WIDTH))[:HEIGHT, :WIDTH], smooth((12, 12))[:12, :12]
    rgb = np.repeat(wall[None], FRAMES, axis=0)
    depth = np.full((FRAMES, HEIGHT, WIDTH), 4.0)
    for t in range(FRAMES):
        rgb[t, 14:26, 10 + SPEED * t : 22 + SPEED * t] = box
        depth[t, 14:26, 10 + SPEED * t : 22 + SPEED * t] = 2
    return Scene4D(
        rgb=rgb.astype(np.uint8),
        depth=depth,
        intrinsics=np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]]),
        camera_to_world=np.tile(np.eye(4), (FRAMES, 1, 1)),
        name="box",
    )


def small_moving_box_scene() -> Scene4D:
    """A wall at depth 4 and a box at depth 2, 3 pixels wide, at columns 2, 6 and 10 of frames 0, 1 and 2."""
    rgb = np.tile(np.array(SMALL_WALL, np.uint8), (3, 9, 16, 1))
    depth = np.full((3, 9, 16), 4.0)
    for t in range(3):
        rgb[t, 3:6, 2 + 4 * t : 5 + 4 * t], depth[t, 3:6, 2 + 4 * t : 5 + 4 * t] = SMALL_BOX, 2.0
    intrinsics = np.array([[16.0, 0, 7.5], [0, 16, 4], [0, 0, 1]])
    return Scene4D(rgb=rgb, depth=depth, intrinsics=intrinsics, camera_to_world=np.tile(np.eye(4), (3, 1, 1)))
