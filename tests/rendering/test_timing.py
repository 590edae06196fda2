import numpy as np
import pytest

from fourdnex.rendering import views_and_rate
from fourdnex.scene import Scene4D


@pytest.fixture
def scene():
    """49 frames at 14 frames per second: 3.5 seconds."""
    poses = np.broadcast_to(np.eye(4), (49, 4, 4)).copy()
    depth = np.ones((49, 4, 6), np.float32)
    rgb = np.zeros((49, 4, 6, 3), np.uint8)
    return Scene4D(rgb=rgb, depth=depth, intrinsics=np.diag([6.0, 6.0, 1.0]), camera_to_world=poses, fps=14.0)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ({}, (49, 14.0)),
        ({"num_views": 98}, (98, 28.0)),
        ({"fps": 24.0}, (84, 24.0)),
        ({"num_views": 10, "fps": 5.0}, (10, 5.0)),
        ({"fps": 0.1}, (1, 0.1)),
    ],
)
def test_video_has_the_duration_of_the_scene_by_default(scene, requested, expected):
    assert views_and_rate(scene, **requested) == expected


def test_invalid_numbers_are_rejected(scene):
    with pytest.raises(ValueError, match="num_views: expected a positive number, got 0"):
        views_and_rate(scene, num_views=0)
    with pytest.raises(ValueError, match="fps: expected a positive number, got -1"):
        views_and_rate(scene, fps=-1)
