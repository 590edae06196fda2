"""A small rendered scene with exact depth, a moving camera and moving objects."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.scene import Scene4D


@pytest.fixture(scope="session")
def world():
    return render_world(3, num_frames=5, height=48, width=72)


@pytest.fixture(scope="session")
def scene(world):
    confidence = np.linspace(0, 1, world.depth.size, dtype=np.float32).reshape(world.depth.shape)
    return Scene4D(
        rgb=world.rgb,
        depth=world.depth,
        intrinsics=world.intrinsics,
        camera_to_world=world.camera_to_world,
        confidence=confidence,
        name="world",
        provenance={"adapter_identity": {"git_commit": "abc"}, "data_md5": None, "rmse": 0.012345678},
    )
