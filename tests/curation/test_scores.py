"""Scores against hand-derived values."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.clip import Clip
from fourdnex.curation import Rules, rejection_reasons, score_clip
from fourdnex.curation.camera_path import camera_scores
from fourdnex.datasets.worlds import render_world


def path(centers: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, 3] = centers
    return poses


def test_constant_acceleration_has_no_camera_break_and_exact_path_length():
    t = np.arange(9.0)
    scores = camera_scores(path(np.stack([0.2 * t, 0 * t, 0.01 * t**2], axis=1)), unit=2.0)
    assert scores["camera_break"] == pytest.approx(0, abs=1e-12)
    # Chords of the parabola, in units of 2.
    assert scores["path_length"] == pytest.approx(np.hypot(0.2, 0.01 * np.diff(t**2)).sum() / 2)
    assert scores["turn"] == 0


def test_curvature_of_a_circle_is_one_over_its_radius():
    angle = np.linspace(0, 1, 201)
    circle = np.stack([3 * np.cos(angle), 0 * angle, 3 * np.sin(angle)], axis=1)
    assert camera_scores(path(circle), unit=1.0)["curvature"] == pytest.approx(1 / 3, rel=0.01)
    # In units of 6, the radius is 1/2.
    assert camera_scores(path(circle), unit=6.0)["curvature"] == pytest.approx(2, rel=0.01)


def test_camera_jump_is_a_camera_break():
    centers = np.zeros((9, 3))
    centers[4:, 0] = 1.0
    # The third difference of a step is 1, -2, 1: two consecutive errors of at least 1.
    assert camera_scores(path(centers), unit=1.0)["camera_break"] == pytest.approx(1)


def test_turn_sums_two_degrees_per_frame():
    angle = np.deg2rad(2) * np.arange(6)
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angle)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angle), -np.sin(angle)
    scores = camera_scores(poses, unit=1.0)
    assert scores["turn"] == pytest.approx(10)
    assert scores["turn_break"] < 0.01


def test_shares_and_brightness_of_a_synthetic_clip():
    rgb = np.full((3, 64, 96, 3), 90, np.uint8)
    depth = np.full((3, 64, 96), 2.0, np.float32)
    depth[:, :16] = np.nan
    depth[:, 40:] = 6.0
    confidence = np.zeros((3, 64, 96), np.float32)
    confidence[:, 32:] = 0.8
    clip = Clip(
        name="synthetic",
        rgb=rgb,
        depth=depth,
        confidence=confidence,
        intrinsics=np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]], np.float32),
        camera_to_world=np.tile(np.eye(4, dtype=np.float32), (3, 1, 1)),
    )
    scores = score_clip(clip)
    assert scores.finite_share == 0.75
    assert scores.confident_share == 0.5 and scores.mean_confidence == pytest.approx(0.4)
    assert scores.depth_spread == pytest.approx(3)
    assert scores.brightness == 90 and scores.contrast == 0 and scores.motion == 0 and scores.flow < 1e-3
    assert scores.warp_error == 0


def test_scores_are_invariant_to_the_scale_of_the_annotation():
    world = render_world(100_003)
    poses = world.camera_to_world.copy()
    poses[:, :3, 3] *= 7
    first, second = score_clip(world), score_clip(replace(world, depth=world.depth * 7, camera_to_world=poses))
    for name in ("path_length", "camera_break", "curvature", "depth_spread", "warp_error"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-3, abs=1e-4), name


def test_wrong_cameras_increase_the_warp_error():
    world = render_world(100_003)
    poses = world.camera_to_world.copy()
    poses[1::2, 0, 3] += 0.15 * float(np.median(world.depth))
    assert score_clip(replace(world, camera_to_world=poses)).warp_error > 2 * score_clip(world).warp_error


def test_unannotated_clip_raises():
    with pytest.raises(ValueError, match="bare: expected an annotated clip"):
        score_clip(Clip(name="bare", rgb=np.zeros((3, 8, 8, 3), np.uint8)))


def with_holes(world: Clip, share: float) -> Clip:
    """A clip with unknown depth at random pixels, as estimates have it."""
    unknown = np.random.default_rng(0).random(world.depth.shape) < share
    depth = np.where(unknown, np.float32("nan"), world.depth)
    return replace(world, annotator="sfm", depth=depth, confidence=np.where(unknown, 0, 0.4).astype(np.float32))


def test_clips_with_mostly_unknown_depth_are_accepted():
    clip = with_holes(render_world(100_003), 0.6)
    scores = score_clip(clip)
    assert scores.finite_share == pytest.approx(0.4, abs=0.01)
    assert scores.mean_confidence == pytest.approx(0.16, abs=0.01)
    # Stereo has few pixels of high confidence; the rule on them is tested apart.
    assert rejection_reasons(scores, Rules(min_confident_share=None)) == ()


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_inverted_depth_contradicts_the_flow(share):
    world = render_world(500_006, family="jumble", height=96, width=144)
    inverted = replace(world, depth=(world.depth.min() * world.depth.max() / world.depth).astype(np.float32))
    good, bad = (score_clip(with_holes(clip, share)).flow_error for clip in (world, inverted))
    assert good < 0.1 and bad > 0.17


def test_flickering_depth_is_inconsistent():
    world = render_world(100_003)
    scale = np.where(np.arange(17) % 2, 1.25, 1.0)[:, None, None].astype(np.float32)
    # The depth of a static camera differs by 1 - 1 / 1.25 between even and odd frames.
    assert score_clip(replace(world, depth=world.depth * scale)).depth_error == pytest.approx(0.2, abs=0.03)
    assert score_clip(world).depth_error < 0.01


def test_field_of_view_is_along_the_longer_side():
    world = render_world(100_003)
    expected = 2 * np.degrees(np.arctan(48 / world.intrinsics[0, 0]))
    assert score_clip(world).field_of_view == pytest.approx(expected)
    portrait = render_world(100_003, height=96, width=64)
    assert score_clip(portrait).field_of_view == pytest.approx(
        2 * np.degrees(np.arctan(48 / portrait.intrinsics[1, 1]))
    )
