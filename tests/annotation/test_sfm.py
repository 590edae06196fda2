"""Annotation by structure from motion: reasons for failure, and the result against exact cameras and depth."""

import numpy as np
import pytest

from fourdnex.annotation import AnnotationError, SfmAnnotator
from fourdnex.annotation.sfm import camera_shift, dynamic_mask
from fourdnex.clip import Clip
from fourdnex.evaluation.depth import depth_metrics
from fourdnex.evaluation.pose import pose_metrics


def test_a_clip_of_three_frames_fails(corner):
    with pytest.raises(AnnotationError, match="expected at least 5 frames, got 3"):
        SfmAnnotator().annotate(corner(num_frames=3, height=48, width=64, amount=0.1))


def test_a_static_camera_fails(corner):
    still = np.repeat(corner(num_frames=1, height=96, width=128, amount=0).rgb, 17, axis=0)
    still[:, 30:50, 40:60] = np.random.default_rng(0).integers(0, 255, (17, 20, 20, 1))  # a moving object
    with pytest.raises(AnnotationError, match=r"the camera does not move .* no parallax"):
        SfmAnnotator().annotate(Clip(name="still", rgb=still))


def test_camera_shift_is_the_total_translation(corner):
    image = corner(num_frames=1, height=96, width=160, amount=0).rgb[0, ..., 0]
    sliding = np.stack([image[:, 2 * t : 2 * t + 128] for t in range(4)])  # 6 pixels in total
    assert camera_shift(sliding) == pytest.approx((6, 6), abs=0.5)


def test_a_moving_is_not_camera_motion(corner):
    gray = np.repeat(corner(num_frames=1, height=96, width=128, amount=0).rgb[..., 0], 4, axis=0)
    moving = np.random.default_rng(0).integers(0, 255, (16, 16)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    for t in range(4):
        gray[t, 16:80, 20 + 4 * t : 84 + 4 * t] = moving  # a third of the image, and most of its texture
    slow, fast = camera_shift(gray)
    assert slow < 0.5 and fast > 5


def test_movings_are_detected(corner):
    clip = corner(num_frames=3, height=96, width=128, amount=0.02)
    gray = clip.rgb[..., 0].copy()
    patch = np.random.default_rng(0).integers(0, 255, (8, 8)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    for t in range(3):
        gray[t, 30:62, 30 + 6 * t : 62 + 6 * t] = patch  # 6 pixels per frame
    mask = dynamic_mask(gray, clip.depth, np.zeros_like(clip.depth), clip.intrinsics, clip.camera_to_world)
    assert mask[0, 34:58, 36:56].mean() > 0.4
    assert mask[0, :, 90:].mean() < 0.05
    assert not dynamic_mask(gray, clip.depth, np.ones_like(clip.depth), clip.intrinsics, clip.camera_to_world).any()


@pytest.mark.slow
def test_cameras_and_depth_of_a_corner(corner):
    truth = corner(num_frames=9, height=180, width=240, amount=0.5)
    clip = SfmAnnotator().annotate(Clip(name="corner", rgb=truth.rgb, caption="a corner"))
    assert clip.annotator == "sfm" and clip.caption == "a corner"
    assert clip.intrinsics[0, 0] == pytest.approx(truth.intrinsics[0, 0], rel=0.05)
    pose = pose_metrics(clip.camera_to_world, truth.camera_to_world)
    length = np.linalg.norm(np.diff(truth.camera_to_world[:, :3, 3], axis=0), axis=1).sum()
    assert pose.ate < 0.02 * length and pose.rpe_rotation_deg < 0.5
    confident = clip.confidence > 0.5
    assert confident.mean() > 0.4
    assert depth_metrics(clip.depth, truth.depth, confident).abs_rel < 0.03
    assert depth_metrics(clip.depth, truth.depth).abs_rel < 0.15
    again = SfmAnnotator().annotate(Clip(name="corner", rgb=truth.rgb))
    assert np.array_equal(again.depth, clip.depth) and np.array_equal(again.camera_to_world, clip.camera_to_world)


@pytest.mark.slow
def test_an_image_without_features_fails():
    rgb = np.zeros((6, 96, 128, 3), np.uint8)
    for t in range(6):
        rgb[t, 20:60, 10 + 6 * t : 50 + 6 * t] = 200  # four corners
    with pytest.raises(AnnotationError, match=r"too few matches|no two frames|frames registered"):
        SfmAnnotator().annotate(Clip(name="square", rgb=rgb))
