from dataclasses import replace

import numpy as np
import pytest

from fourdnex import Clip
from fourdnex.geometry import project


def make_clip(num_frames: int = 3, height: int = 20, width: int = 30) -> Clip:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4, dtype=np.float32), (num_frames, 1, 1))
    poses[:, 2, 3] = np.arange(num_frames)
    return Clip(
        name="clip-1",
        rgb=rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8),
        depth=rng.uniform(5, 6, (num_frames, height, width)).astype(np.float32),
        intrinsics=np.array([[25, 0, 14.5], [0, 25, 9.5], [0, 0, 1]], np.float32),
        camera_to_world=poses,
        confidence=np.ones((num_frames, height, width), np.float32),
        dynamic_mask=np.zeros((num_frames, height, width), bool),
    )


def test_pointmaps_are_in_the_frame_of_the_first_camera():
    clip = make_clip()
    # The third camera stands 2 units ahead: its points have z = depth + 2.
    assert clip.pointmaps[2, ..., 2] == pytest.approx(clip.depth[2] + 2)


def test_invalid_depth_gives_no_point():
    clip = make_clip()
    clip.depth[0, 0, 0] = 0
    assert np.isnan(clip.pointmaps[0, 0, 0]).all()


def test_pointmaps_are_none_without_annotation():
    assert Clip(name="a", rgb=np.zeros((1, 2, 2, 3), np.uint8)).pointmaps is None
    assert replace(make_clip(), intrinsics=None).pointmaps is None


def test_resized_points_project_onto_the_new_pixels():
    small = make_clip(height=24, width=36).resized(10, 10)  # rows 24 -> 10, columns cut from 36 to 24
    assert small.rgb.shape == (3, 10, 10, 3)
    assert small.intrinsics[0, 0] == pytest.approx(25 * 10 / 24)
    # cx = 14.5 lies 15 pixels from the left border, 9 after the cut of 6, 9 * 10 / 24 after scaling.
    assert small.intrinsics[0, 2] == pytest.approx(9 * 10 / 24 - 0.5)
    pixels, _ = project(small.pointmaps, small.intrinsics, small.camera_to_world)
    y, x = np.mgrid[:10, :10]
    assert np.abs(pixels - np.stack([x, y], axis=-1)).max() < 1e-4


def test_resizing_keeps_values_in_place():
    # An image whose red says the column: after halving, pixel i covers columns 2i and 2i + 1.
    rgb = np.zeros((1, 20, 40, 3), np.uint8)
    rgb[..., 0] = 5 * np.arange(40)
    half = Clip(name="a", rgb=rgb).resized(10, 20)
    assert np.abs(half.rgb[0, 5, 2:-2, 0] - 5 * (2 * np.arange(20) + 0.5)[2:-2]).max() <= 1


def test_the_world_of_a_window_is_its_first_camera():
    clip = make_clip()
    window = clip.window(1, 2)
    assert window.num_frames == 2
    assert (window.camera_to_world[0] == np.eye(4)).all()
    assert window.pointmaps[..., 2] == pytest.approx(clip.pointmaps[1:, ..., 2] - 1)
    with pytest.raises(ValueError, match="3 frames"):
        clip.window(2, 2)


def test_imported_pointmaps_replace_missing_intrinsics():
    clip = make_clip()
    given = replace(clip, depth=None, intrinsics=None, imported_pointmaps=clip.pointmaps)
    assert given.window(1, 2).pointmaps == pytest.approx(clip.window(1, 2).pointmaps, abs=1e-5)
    assert given.resized(10, 15).pointmaps.shape == (3, 10, 15, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a/b"),
        ("name", ".."),
        ("rgb", np.zeros((1, 2, 2, 3), np.float32)),
        ("rgb", np.zeros((0, 2, 2, 3), np.uint8)),
        ("fps", 0.0),
        ("depth", np.zeros((2, 20, 30), np.float32)),
        ("depth", np.zeros((3, 20, 30), np.float64)),
        ("intrinsics", np.zeros((3, 3), np.float32)),
        ("camera_to_world", np.full((3, 4, 4), np.nan, np.float32)),
        ("camera_to_world", np.tile(2 * np.eye(4, dtype=np.float32), (3, 1, 1))),
        ("confidence", np.full((3, 20, 30), 2.0, np.float32)),
        ("dynamic_mask", np.zeros((3, 20, 30), np.uint8)),
    ],
)
def test_errors_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        replace(make_clip(), **{field: value})


def test_the_first_camera_must_be_the_world():
    poses = make_clip().camera_to_world + np.float32(0)
    poses[:, 0, 3] = 1
    with pytest.raises(ValueError, match="identity"):
        replace(make_clip(), camera_to_world=poses)
