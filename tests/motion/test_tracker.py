"""Point tracking of a scene with exact ground truth."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.geometry.cameras import unproject
from fourdnex.motion import sparse_tracks, track_scene, with_tracks
from fourdnex.subsampling import subsampling_stride

FRAMES, HEIGHT, WIDTH, SPEED = 6, 40, 60, 2


def test_first_frame_has_one_track_per_pixel_in_row_major_order(moving_box):
    tracks = track_scene(moving_box)
    count = HEIGHT * WIDTH
    rows, columns = np.divmod(np.arange(count), WIDTH)
    assert (tracks.first_frame[:count] == 0).all() and (tracks.first_frame[count:] > 0).all()
    assert (tracks.pixel[:count] == np.stack([rows, columns], axis=1)).all()
    assert (tracks.rgb[:count] == moving_box.rgb[0].reshape(-1, 3)).all()
    assert tracks.visible[:count, 0].all()


def test_box_moves_and_wall_is_static(moving_box):
    tracks = track_scene(moving_box)
    on_box = moving_box.depth[0].reshape(-1) == 2
    start = unproject(moving_box.depth[:1], moving_box.intrinsics, np.eye(4)[None]).reshape(-1, 3)
    first = tracks.select(np.arange(len(start)))
    assert (first.moves == on_box).mean() > 0.98
    moved = np.zeros((FRAMES, 3))
    moved[:, 0] = np.arange(FRAMES) * SPEED * 2 / 50  # pixels times depth by focal length
    truth = start[:, None] + on_box[:, None, None] * moved
    error = np.linalg.norm(first.positions - truth, axis=-1)
    assert np.median(error[~on_box]) < 1e-6
    assert np.median(error[on_box, -1]) < 0.02  # half a pixel, after a motion of ten


def test_occluded_points_are_invisible_and_disoccluded_pixels_start_tracks(moving_box):
    tracks = track_scene(moving_box)
    count = HEIGHT * WIDTH
    last = 10 + SPEED * (FRAMES - 1)
    occluded = np.zeros((HEIGHT, WIDTH), bool)
    occluded[15:25, 23 : last + 11] = True  # one pixel inside of the silhouette
    assert not tracks.visible[:count, -1][occluded.reshape(-1)].any()
    disoccluded = tracks.select(np.arange(count, len(tracks)))
    assert len(disoccluded) > 0 and not disoccluded.moves.any()
    assert (disoccluded.pixel[:, 0] >= 13).all() and (disoccluded.pixel[:, 0] < 27).all()
    assert np.isnan(disoccluded.positions[:, 0]).all() and not disoccluded.visible[:, 0].any()


def test_static_points_are_fused_over_frames(moving_box):
    rng = np.random.default_rng(1)
    depth = 4 * (1 + 0.003 * rng.standard_normal(moving_box.depth.shape))
    rgb = np.repeat(moving_box.rgb[:1], FRAMES, axis=0)
    tracks = track_scene(replace(moving_box, depth=depth, rgb=rgb))
    count = HEIGHT * WIDTH
    assert not tracks.moves.any()
    fused = np.abs(tracks.positions[:count, 0, 2] - 4).mean()
    assert fused < 0.6 * np.abs(depth[0] - 4).mean()  # expected for the mean of six: 0.41


def test_holes_have_no_tracks_and_stride_subsamples(moving_box):
    depth = moving_box.depth.copy()
    depth[:, 3] = np.nan
    tracks = track_scene(replace(moving_box, depth=depth))
    assert (tracks.first_frame == 0).sum() == (HEIGHT - 1) * WIDTH
    assert 3 not in tracks.pixel[:, 0]
    coarse = track_scene(moving_box, stride=4)
    assert (coarse.first_frame == 0).sum() == HEIGHT * WIDTH / 16
    assert (coarse.pixel % 4 == 0).all()
    with pytest.raises(ValueError, match="stride: expected at least 1, got 0"):
        track_scene(moving_box, stride=0)


def test_scene_without_depth_has_no_tracks(moving_box):
    assert len(track_scene(replace(moving_box, depth=np.full_like(moving_box.depth, np.nan)))) == 0


def test_sparse_tracks_and_with_tracks(moving_box):
    assert [subsampling_stride(*size, max_pixels=20_000) for size in ((64, 96), (480, 720), (512, 768))] == [1, 5, 5]
    assert len(sparse_tracks(moving_box)) == len(track_scene(moving_box))
    scene = with_tracks(moving_box)
    assert scene.tracks is not None and with_tracks(scene) is scene
    one = replace(
        moving_box,
        rgb=moving_box.rgb[:1],
        depth=moving_box.depth[:1],
        camera_to_world=moving_box.camera_to_world[:1],
    )
    assert with_tracks(one) is one
