"""Annotation by structure from motion: reasons for failure, and the result against exact cameras and depth."""

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.rendered_videos import clips_of, render_video
from fourdnex.annotation import AnnotationError, SfmAnnotator
from fourdnex.annotation.sfm import camera_shift
from fourdnex.clip import Clip
from fourdnex.evaluation.depth import depth_metrics
from fourdnex.evaluation.pose import pose_metrics


@dataclass
class Clips:
    """Clips of one video, in memory."""

    clips: list[Clip]

    @property
    def names(self) -> list[str]:
        return [clip.name for clip in self.clips]

    def read(self, name: str) -> Clip:
        return next(clip for clip in self.clips if clip.name == name)


def annotate(*clips: Clip, max_pixels: int | None = None) -> dict[str, Clip | ValueError]:
    """Annotate all clips of a video."""
    video = Clips(list(clips))
    return dict(SfmAnnotator().annotate_video(video, video.names, max_pixels=max_pixels))


def test_a_clip_of_three_frames_fails(corner):
    with pytest.raises(AnnotationError, match="expected at least 5 frames, got 3"):
        raise annotate(corner(num_frames=3, height=48, width=64, amount=0.1))["corner"]


def test_a_static_camera_fails(corner):
    still = np.repeat(corner(num_frames=1, height=96, width=128, amount=0).rgb, 17, axis=0)
    still[:, 30:50, 40:60] = np.random.default_rng(0).integers(0, 255, (17, 20, 20, 1))  # a moving object
    with pytest.raises(AnnotationError, match=r"the camera does not move .* no parallax"):
        raise annotate(Clip(name="still", rgb=still))["still"]


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


@pytest.mark.slow
def test_cameras_and_depth_of_a_corner(corner):
    truth = corner(num_frames=9, height=180, width=240, amount=0.5)
    source = Clip(name="corner", rgb=truth.rgb, caption="a corner")
    clip = annotate(source)["corner"]
    assert clip.annotator == "sfm" and clip.caption == "a corner"
    assert clip.intrinsics[0, 0] == pytest.approx(truth.intrinsics[0, 0], rel=0.05)
    pose = pose_metrics(clip.camera_to_world, truth.camera_to_world)
    length = np.linalg.norm(np.diff(truth.camera_to_world[:, :3, 3], axis=0), axis=1).sum()
    assert pose.ate < 0.02 * length and pose.rpe_rotation_deg < 0.5
    known = np.isfinite(clip.depth)
    assert known.mean() > 0.4
    assert (clip.confidence[~known] == 0).all()
    assert depth_metrics(clip.depth, truth.depth, known).abs_rel < 0.03
    again = annotate(source)["corner"]
    assert np.array_equal(again.depth, clip.depth, equal_nan=True)
    assert np.array_equal(again.camera_to_world, clip.camera_to_world)


@pytest.mark.slow
def test_an_image_without_features_fails():
    rgb = np.zeros((6, 96, 128, 3), np.uint8)
    for t in range(6):
        rgb[t, 20:60, 10 + 6 * t : 50 + 6 * t] = 200  # four corners
    with pytest.raises(AnnotationError, match=r"too few matches|no frames|frames registered|observations"):
        raise annotate(Clip(name="square", rgb=rgb))["square"]


@pytest.mark.slow
def test_clips_of_one_video_share_a_distorted_camera():
    video = render_video(301, num_frames=34, motion="orbit", height=240, width=360)
    found = annotate(*clips_of(video), max_pixels=120 * 180)
    first, second = found.values()
    assert (first.height, first.width) == (120, 180)
    assert np.array_equal(first.intrinsics, second.intrinsics)
    assert first.intrinsics[0, 0] == pytest.approx(video.intrinsics[0, 0] / 2, rel=0.03)
    depth, _ = video.truth(range(17, 34), second.intrinsics, 120, 180)
    assert depth_metrics(second.depth, depth, np.isfinite(second.depth)).abs_rel < 0.05


@pytest.mark.slow
def test_a_rotating_camera_fails():
    video = render_video(306, num_frames=17, motion="rotation", height=240, width=360)
    (outcome,) = annotate(*clips_of(video)).values()
    with pytest.raises(AnnotationError, match=r"parallax|focal length|registered"):
        raise outcome
