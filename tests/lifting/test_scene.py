"""Scenes lifted to their photographs: worlds rendered small and large."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world
from fourdnex.evaluation.psnr import psnr
from fourdnex.lifting import lift_scene
from fourdnex.scene import Origin, Scene4D

STILL = 900_000_024  # nothing moves but the camera
SIZE = (192, 288)


def scene_of(clip: Clip) -> Scene4D:
    return Scene4D(
        rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world, fps=8.0
    )


@pytest.fixture(scope="module")
def still() -> tuple[Scene4D, np.ndarray]:
    """A scene of 64 x 96 as a good model would make it, and the same frames rendered at 192 x 288."""
    coarse = render_world(STILL, num_frames=5)
    # A model's frames are blurred.
    rgb = np.stack([coarse.rgb[0], *(cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in coarse.rgb[1:])])
    truth = render_world(STILL, num_frames=5, height=SIZE[0], width=SIZE[1]).rgb
    return replace(scene_of(coarse), rgb=rgb, confidence=np.full(coarse.depth.shape, 0.8)), truth


@pytest.fixture(scope="module")
def lifted(still) -> Scene4D:
    scene, truth = still
    return lift_scene(scene, truth[0])


def test_the_first_frame_is_the_photograph(still, lifted):
    np.testing.assert_array_equal(lifted.rgb[0], still[1][0])
    assert (lifted.origin[0] == Origin.PHOTOGRAPH).all()


def test_later_frames_show_the_photographs_detail(still, lifted):
    scene, truth = still
    enlarged = np.stack([cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for frame in scene.rgb])
    assert psnr(lifted.rgb[1:], truth[1:]) > psnr(enlarged[1:], truth[1:]) + 3
    shares = (lifted.origin[1:] == Origin.PHOTOGRAPH).mean(axis=(1, 2))
    assert (shares > 0.6).all()


def test_cameras_and_geometry_stay(still, lifted):
    scene, _ = still
    np.testing.assert_array_equal(lifted.camera_to_world, scene.camera_to_world)
    # Three times as many pixels from border to border: -0.5 stays the border.
    assert lifted.intrinsics[0, 0] == pytest.approx(3 * scene.intrinsics[0, 0])
    assert lifted.intrinsics[0, 2] + 0.5 == pytest.approx(3 * (scene.intrinsics[0, 2] + 0.5))
    middles = lifted.depth[:, 1::3, 1::3]
    off = np.abs(middles / scene.depth - 1)
    assert np.median(off) < 0.01 and np.mean(off < 0.05) > 0.93


def test_origin_counts_as_confidence(lifted):
    assert lifted.confidence[lifted.origin == Origin.PHOTOGRAPH] == pytest.approx(0.8, abs=1e-6)
    assert lifted.confidence[lifted.origin == Origin.MODEL] == pytest.approx(0.6, abs=1e-6)


def test_tracks_come_along_at_the_finer_pixels(still, lifted):
    tracks = lifted.tracks
    first = tracks.first_frame == 0
    assert first.sum() == 64 * 96
    assert (tracks.pixel[first] % 3 == 1).all()  # the middles of 3 x 3 fine pixels
    row, column = tracks.pixel[first].T
    np.testing.assert_array_equal(tracks.rgb[first], lifted.rgb[0][row, column])


@pytest.mark.parametrize(
    ("coarse_size", "size"),
    [((64, 96), SIZE), ((128, 192), (256, 384))],  # the second is tracked with a stride, and compared in cells
)
def test_what_moves_takes_the_photograph_along(coarse_size, size):
    seed = 900_000_006  # a large sphere
    coarse = scene_of(render_world(seed, num_frames=9, height=coarse_size[0], width=coarse_size[1]))
    fine = render_world(seed, num_frames=9, height=size[0], width=size[1])
    lifted = lift_scene(coarse, fine.rgb[0])
    moving = fine.dynamic_mask[4]
    assert moving.mean() > 0.05
    assert (lifted.origin[4][moving] == Origin.PHOTOGRAPH).mean() > 0.8
    error = np.abs(lifted.rgb[4].astype(float) - fine.rgb[4]).mean(axis=-1)
    assert error[moving].mean() < 4  # the sphere is about 60 brighter than the wall behind it


def test_a_scene_of_one_frame_and_one_without_depth(still):
    scene, truth = still
    one = Scene4D(
        rgb=scene.rgb[:1], depth=scene.depth[:1], intrinsics=scene.intrinsics, camera_to_world=scene.camera_to_world[:1]
    )
    lifted = lift_scene(one, truth[0])
    np.testing.assert_array_equal(lifted.rgb[0], truth[0])
    empty = lift_scene(replace(scene, depth=np.full(scene.depth.shape, np.nan)), truth[0])
    assert (empty.origin == Origin.NONE).all() and np.isnan(empty.depth).all()


def test_a_model_that_draws_something_else_does_not_paint_over_the_photograph(still):
    scene, truth = still
    noise = np.random.default_rng(0).integers(0, 255, scene.rgb[1:].shape).astype(np.uint8)
    foreign = replace(scene, rgb=np.concatenate([scene.rgb[:1], noise]))
    lifted = lift_scene(foreign, truth[0])
    assert (lifted.origin[1:] == Origin.PHOTOGRAPH).mean() > 0.7
    assert not (lifted.origin == Origin.MODEL).any()
    assert not lifted.tracks.moves.any() and len(np.unique(lifted.tracks.positions[0], axis=0)) == 1
    assert psnr(lifted.rgb[1:], truth[1:]) > 20


@pytest.mark.parametrize(
    ("photograph", "message"),
    [
        (np.zeros((192, 288), np.uint8), r"photograph: expected \[H, W, 3\] uint8, got \(192, 288\) uint8"),
        (np.zeros((192, 288, 3)), "float64"),
        (np.zeros((32, 288, 3), np.uint8), "at least 64 x 96 pixels, the scene's, got 32 x 288"),
    ],
)
def test_refuses_what_is_no_photograph_of_the_scene(still, photograph, message):
    with pytest.raises(ValueError, match=message):
        lift_scene(still[0], photograph)
