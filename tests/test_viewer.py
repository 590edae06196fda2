"""The viewer on a real server without a browser: what is visible when, and where one looks from."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.scene import Scene4D
from fourdnex.viewer import ScenePlayer, first_view, view


@pytest.fixture(scope="module")
def scene():
    clip = render_world(3, num_frames=5, height=32, width=48)
    return Scene4D(
        rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world, name="world"
    )


def test_one_frame_is_visible_at_a_time_and_playing_goes_round(scene):
    viser = pytest.importorskip("viser")
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        player = ScenePlayer(server, scene, title="world")
        seen = []
        for _ in range(6):
            seen.append([cloud.visible for cloud in player._clouds].index(True))
            assert sum(cloud.visible for cloud in player._clouds) == 1
            player.step()
        assert seen == [0, 1, 2, 3, 4, 0]
        assert player._clouds[0].points.shape == (32 * 48, 3)
        assert len(player._frusta) == 5
        np.testing.assert_allclose(player._frusta[0].wxyz, (1, 0, 0, 0), atol=1e-6)
    finally:
        server.stop()


def test_the_first_view_has_the_scene_before_it(scene):
    """The eye is behind and above the first camera (y down), and the middle of the scene lies straight ahead of it."""
    eye, target = first_view(scene)
    assert eye[2] < 0 and eye[1] < 0
    assert target[2] == pytest.approx(float(np.nanmedian(scene.depth[0])), rel=1e-6)


def test_a_folder_without_a_scene_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scene\.json"):
        view(tmp_path)
