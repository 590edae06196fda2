"""Lifting of scenes, with worlds rendered at two resolutions."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world
from fourdnex.lifting import lift_scene
from fourdnex.metrics.psnr import psnr
from fourdnex.scene import Origin, Scene4D

STATIC_SEED = 900_000_024  # only the camera moves
SIZE = (192, 288)


def scene_of(clip: Clip) -> Scene4D:
    return Scene4D(
        rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world, fps=8.0
    )


@pytest.fixture(scope="module")
def static() -> tuple[Scene4D, np.ndarray]:
    """A scene of 64 x 96 like that of a good model, and the same frames rendered at 192 x 288."""
    coarse = render_world(STATIC_SEED, num_frames=5)
    # The frames of a model are blurred.
    rgb = np.stack([coarse.rgb[0], *(cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in coarse.rgb[1:])])
    truth = render_world(STATIC_SEED, num_frames=5, height=SIZE[0], width=SIZE[1]).rgb
    return replace(scene_of(coarse), rgb=rgb, confidence=np.full(coarse.depth.shape, 0.8)), truth


@pytest.fixture(scope="module")
def lifted(static) -> Scene4D:
    scene, truth = static
    return lift_scene(scene, truth[0])


def test_first_frame_is_the_photograph(static, lifted):
    np.testing.assert_array_equal(lifted.rgb[0], static[1][0])
    assert (lifted.origin[0] == Origin.PHOTOGRAPH).all()


def test_later_frames_have_the_detail_of_the_photograph(static, lifted):
    scene, truth = static
    upsampled = np.stack([cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for frame in scene.rgb])
    assert psnr(lifted.rgb[1:], truth[1:]) > psnr(upsampled[1:], truth[1:]) + 3
    fractions = (lifted.origin[1:] == Origin.PHOTOGRAPH).mean(axis=(1, 2))
    assert (fractions > 0.6).all()


def test_cameras_and_geometry_are_preserved(static, lifted):
    scene, _ = static
    np.testing.assert_array_equal(lifted.camera_to_world, scene.camera_to_world)
    # Three times as many pixels with the border at -0.5.
    assert lifted.intrinsics[0, 0] == pytest.approx(3 * scene.intrinsics[0, 0])
    assert lifted.intrinsics[0, 2] + 0.5 == pytest.approx(3 * (scene.intrinsics[0, 2] + 0.5))
    centers = lifted.depth[:, 1::3, 1::3]
    error = np.abs(centers / scene.depth - 1)
    assert np.median(error) < 0.01 and np.mean(error < 0.05) > 0.93


def test_confidence_depends_on_origin(lifted):
    assert lifted.confidence[lifted.origin == Origin.PHOTOGRAPH] == pytest.approx(0.8, abs=1e-6)
    assert lifted.confidence[lifted.origin == Origin.MODEL] == pytest.approx(0.6, abs=1e-6)


def test_tracks_refer_to_the_lifted_pixels(static, lifted):
    tracks = lifted.tracks
    first = tracks.first_frame == 0
    assert first.sum() == 64 * 96
    assert (tracks.pixel[first] % 3 == 1).all()  # the centers of 3 x 3 fine pixels
    row, column = tracks.pixel[first].T
    np.testing.assert_array_equal(tracks.rgb[first], lifted.rgb[0][row, column])


@pytest.mark.parametrize(
    ("coarse_size", "size"),
    [((64, 96), SIZE), ((128, 192), (256, 384))],  # the second is tracked with a stride and compared in cells
)
def test_photograph_moves_with_objects(coarse_size, size):
    seed = 900_000_006  # a large sphere
    coarse = scene_of(render_world(seed, num_frames=9, height=coarse_size[0], width=coarse_size[1]))
    fine = render_world(seed, num_frames=9, height=size[0], width=size[1])
    lifted = lift_scene(coarse, fine.rgb[0])
    moving = fine.dynamic_mask[4]
    assert moving.mean() > 0.05
    assert (lifted.origin[4][moving] == Origin.PHOTOGRAPH).mean() > 0.8
    error = np.abs(lifted.rgb[4].astype(float) - fine.rgb[4]).mean(axis=-1)
    assert error[moving].mean() < 4  # the sphere is brighter than the wall by about 60


def test_scene_with_one_frame_and_scene_without_depth(static):
    scene, truth = static
    one = Scene4D(
        rgb=scene.rgb[:1], depth=scene.depth[:1], intrinsics=scene.intrinsics, camera_to_world=scene.camera_to_world[:1]
    )
    lifted = lift_scene(one, truth[0])
    np.testing.assert_array_equal(lifted.rgb[0], truth[0])
    empty = lift_scene(replace(scene, depth=np.full(scene.depth.shape, np.nan)), truth[0])
    assert (empty.origin == Origin.NONE).all() and np.isnan(empty.depth).all()


def test_dissimilar_model_frames_do_not_replace_the_photograph(static):
    scene, truth = static
    noise = np.random.default_rng(0).integers(0, 255, scene.rgb[1:].shape).astype(np.uint8)
    dissimilar = replace(scene, rgb=np.concatenate([scene.rgb[:1], noise]))
    lifted = lift_scene(dissimilar, truth[0])
    assert (lifted.origin[1:] == Origin.PHOTOGRAPH).mean() > 0.7
    assert not (lifted.origin == Origin.MODEL).any()
    assert not lifted.tracks.moves.any() and len(np.unique(lifted.tracks.positions[0], axis=0)) == 1
    assert psnr(lifted.rgb[1:], truth[1:]) > 20


@pytest.mark.parametrize(
    ("photograph", "message"),
    [
        (np.zeros((192, 288), np.uint8), r"photograph: expected \[H, W, 3\] uint8, got \(192, 288\) uint8"),
        (np.zeros((192, 288, 3)), "float64"),
        (np.zeros((32, 288, 3), np.uint8), "at least 64 x 96 pixels, the size of the scene's frames, got 32 x 288"),
    ],
)
def test_invalid_photographs_are_rejected(static, photograph, message):
    with pytest.raises(ValueError, match=message):
        lift_scene(static[0], photograph)
