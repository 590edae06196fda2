"""Plane-sweep stereo with known cameras, against exact depth."""

import numpy as np

from fourdnex.annotation.stereo import agreement, choose_sources, sweep
from fourdnex.evaluation.depth import depth_metrics


def test_depth_of_a_corner_and_its_confidence(corner):
    clip = corner(num_frames=7, height=60, width=80, amount=0.3)
    gray = clip.rgb[..., 0].astype(np.float32) / 255
    depth_range = np.tile([0.8 * clip.depth.min(), 1.2 * clip.depth.max()], (7, 1))
    depth, confidence = sweep(gray, clip.intrinsics, clip.camera_to_world, depth_range)
    assert depth.shape == confidence.shape == (7, 60, 80) and depth.dtype == confidence.dtype == np.float32
    assert np.isfinite(depth).all() and depth.min() > 0 and confidence.min() >= 0 and confidence.max() <= 1
    confident = confidence > 0.5
    assert confident.mean() > 0.6
    error = np.abs(depth / clip.depth - 1)
    assert np.median(error[confident]) < 0.02
    assert depth_metrics(depth, clip.depth, confident).abs_rel < 0.04
    assert error[confident].mean() < error[~confident].mean()


def test_without_texture_the_confidence_is_zero_and_depth_is_filled():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, 0.2, 0.4]
    intrinsics = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
    depth, confidence = sweep(np.full((3, 24, 32), 0.5, np.float32), intrinsics, poses, np.tile([1.0, 4.0], (3, 1)))
    assert (confidence == 0).all()
    assert np.isfinite(depth).all() and depth.min() >= 0.99 and depth.max() <= 4.01
    noise = np.random.default_rng(0).uniform(0, 1, (3, 24, 32)).astype(np.float32)  # views without common surfaces
    _, confidence = sweep(noise, intrinsics, poses, np.tile([1.0, 4.0], (3, 1)))
    assert confidence.mean() < 0.35


def test_sources_are_the_views_at_the_target_angle():
    # Parallel cameras on a line, 0.175 apart: neighbors see the scene center, at depth 2, 5 degrees apart.
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3] = 0.175 * np.arange(9)
    assert choose_sources(poses, np.tile([1.0, 4.0], (9, 1)))[4] == [2, 3, 5, 6]


def test_agreement_is_high_for_true_depth_and_lower_for_wrong_depth(corner):
    clip = corner(num_frames=3, height=48, width=64, amount=0.1)
    sources = [[1, 2], [0, 2], [0, 1]]
    true = agreement(clip.depth, clip.intrinsics, clip.camera_to_world, sources)
    wrong = clip.depth.copy()
    wrong[1] *= 1.15
    less = agreement(wrong, clip.intrinsics, clip.camera_to_world, sources)
    assert np.median(true) > 0.8
    assert np.median(less[1]) < 0.1
