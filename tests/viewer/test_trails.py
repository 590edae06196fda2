"""Transfer format of motion trails and origins."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from fourdnex.motion import track_scene
from fourdnex.viewer.frames import frame_block
from fourdnex.viewer.page import describe_scene
from fourdnex.viewer.trails import describe_trails, trails_block


@pytest.fixture(scope="module")
def tracked(scene):
    return replace(scene, tracks=track_scene(scene))


def test_trails_block_round_trips_moving_tracks(tracked):
    description = describe_trails(tracked)
    moving = tracked.tracks.select(tracked.tracks.moves & (tracked.tracks.first_frame < 4))
    count = description["count"]
    assert 0 < count == len(moving) <= 1500
    data = zlib.decompress(trails_block(tracked))
    first = np.frombuffer(data[: 2 * count], "<u2")
    assert (first == moving.first_frame).all()
    assert (np.frombuffer(data[2 * count : 5 * count], np.uint8).reshape(-1, 3) == moving.rgb).all()
    planes = np.frombuffer(data[5 * count :], np.uint8).reshape(2, 3 * count, 5).astype(np.int64)
    zigzag = planes[0] + 256 * planes[1]
    codes = np.cumsum((zigzag >> 1) ^ -(zigzag & 1), axis=1) & 65535
    positions = codes.reshape(count, 3, 5).transpose(0, 2, 1) * np.array(description["step"]) + description["low"]
    begun = np.arange(5) >= first[:, None]
    np.testing.assert_allclose(positions[begun], moving.positions[begun], atol=max(description["step"]))


def test_scenes_without_moving_tracks_have_no_trails(scene, tracked):
    assert describe_trails(scene) is None and describe_scene(scene, title="a")["trails"] is None
    static = replace(tracked, tracks=tracked.tracks.select(~tracked.tracks.moves))
    assert describe_trails(static) is None
    with pytest.raises(ValueError, match="tracks: expected moving tracks"):
        trails_block(static)


def test_origin_follows_the_image(scene):
    origin = np.random.default_rng(0).integers(0, 4, scene.depth.shape)
    marked = frame_block(replace(scene, origin=origin), 2)
    plain = frame_block(scene, 2)
    assert marked.startswith(plain)
    assert (np.frombuffer(zlib.decompress(marked[len(plain) :]), np.uint8).reshape(48, 72) == 85 * origin[2]).all()
