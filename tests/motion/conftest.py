import pytest

from fourdnex.scene import Scene4D
from tests.motion.moving_box import moving_box_scene, small_moving_box_scene


@pytest.fixture(scope="session")
def moving_box() -> Scene4D:
    return moving_box_scene()


@pytest.fixture
def small_moving_box() -> Scene4D:
    return small_moving_box_scene()
