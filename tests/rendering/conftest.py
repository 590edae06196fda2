import pytest

from fourdnex.scene import Scene4D
from tests.motion.moving_box import small_moving_box_scene


@pytest.fixture
def moving_box() -> Scene4D:
    return small_moving_box_scene()
