"""Metrics of predictions: ground truth scores best, and unknowable center and scale have no effect."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.evaluation.scoring import METRICS, score, score_all
from fourdnex.geometry.pointmaps import normalize_pointmaps, sloped_plane


@pytest.fixture(scope="module")
def clip():
    seed = next(s for s in range(100) if {"camera-orbit", "dynamic"} <= set(sample_world(s).tags))
    return render_world(seed, num_frames=5, height=32, width=48)


@pytest.fixture(scope="module")
def noisy(clip):
    """Normalized true points, the farther half of them pushed back by smooth waves: systematic errors."""
    xyz, normalization = normalize_pointmaps(clip.pointmaps)
    waves = 0.05 * np.sin(np.arange(clip.width) / 5)[:, None] * np.array([0.0, 0.0, 1.0])
    return (xyz + waves * (xyz[..., 2:] > 0)).astype(np.float32), normalization


def test_ground_truth_scores_best(clip):
    xyz, normalization = normalize_pointmaps(clip.pointmaps)
    result = score(clip, clip.rgb, xyz, center=normalization.center, scale=normalization.scale)
    assert set(result) == {*METRICS, "recovered"}
    assert result["abs_rel"] < 1e-3 and result["delta1"] == 1
    assert result["ate"] < 1e-2 and result["rpe_translation"] < 1e-2 and result["rpe_rotation_deg"] < 0.1
    assert result["length_ratio"] == pytest.approx(1, abs=0.02)
    assert result["chamfer"] < 1e-3 and result["xyz_error"] < 1e-3
    assert (result["psnr"], result["recovered"]) == (60.0, 1.0)
    assert result["ssim"] == pytest.approx(1)


def test_errors_are_measured(clip, noisy):
    xyz, normalization = noisy
    rgb = np.clip(clip.rgb.astype(int) + 12, 0, 255).astype(np.uint8)
    result = score(clip, rgb, xyz, center=normalization.center, scale=normalization.scale)
    assert 0.003 < result["abs_rel"] < 0.1
    assert 0.003 < result["chamfer"] < 0.1
    assert result["xyz_error"] == pytest.approx(
        result["chamfer"] / 2, rel=0.01
    )  # the nearest point is that of the same pixel
    assert 26 < result["psnr"] < 30  # 20 log10(255 / 12) = 26.5, and less error where the sky is white already


@pytest.mark.parametrize("tags", [{"camera-orbit", "dynamic"}, {"camera-still"}])
def test_metrics_are_invariant_to_center_and_scale(tags):
    """Points are denormalized with the median center and scale of the training clips, which must not affect metrics."""
    seed = next(seed for seed in range(100) if tags <= set(sample_world(seed).tags))
    clip = render_world(seed, num_frames=5, height=32, width=48)
    xyz, normalization = normalize_pointmaps(clip.pointmaps)
    rng = np.random.default_rng(0)
    rough = (xyz + 0.02 * rng.standard_normal((5, 1, 1, 3)) + 0.01 * rng.standard_normal(xyz.shape)).astype(np.float32)
    here = score(clip, clip.rgb, rough, center=normalization.center, scale=normalization.scale)
    there = score(clip, clip.rgb, rough, center=(5.0, -3.0, 20.0), scale=7.0)
    assert here["ate"] > 0.01
    for metric in METRICS:
        assert there[metric] == pytest.approx(here[metric], rel=0.03, nan_ok=True), metric


def test_static_sloped_plane_has_a_low_but_valid_score(clip):
    plane = np.repeat(sloped_plane(clip.height, clip.width)[None], clip.num_frames, axis=0)
    static = np.repeat(clip.rgb[:1], clip.num_frames, axis=0)
    _, normalization = normalize_pointmaps(clip.pointmaps)
    result = score(clip, static, plane, center=normalization.center, scale=normalization.scale)
    assert all(np.isfinite(value) for value in result.values())
    assert result["abs_rel"] > 0.05 and result["chamfer"] > 0.05
    assert result["length_ratio"] < 0.2  # the camera is static


@pytest.mark.parametrize("z", [3.0, -3.0])
def test_points_without_recoverable_cameras_are_scored(clip, z):
    """All points in one place, in front of or behind the camera: depth is z, and the camera is static."""
    xyz = np.zeros_like(clip.pointmaps)
    result = score(clip, clip.rgb, xyz, center=(0.0, 0.0, z), scale=1.0)
    assert result["recovered"] == 0
    assert result["length_ratio"] == 0
    assert np.isfinite([result["abs_rel"], result["chamfer"], result["ate"]]).all()


def test_static_camera_has_no_length_ratio():
    seed = next(s for s in range(100) if "camera-still" in sample_world(s).tags)
    clip = render_world(seed, num_frames=3, height=32, width=48)
    xyz, normalization = normalize_pointmaps(clip.pointmaps)
    result = score(clip, clip.rgb, xyz, center=normalization.center, scale=normalization.scale)
    assert np.isnan(result["length_ratio"])
    assert result["abs_rel"] < 1e-3


@pytest.mark.slow
def test_parallel_scores_equal_sequential_scores(clip, noisy):
    xyz, normalization = noisy
    exact, _ = normalize_pointmaps(clip.pointmaps)
    given = {"center": tuple(normalization.center), "scale": normalization.scale}
    together = score_all([clip] * 3, [(clip.rgb, xyz), (clip.rgb, exact), (clip.rgb, xyz)], **given)
    assert together == [score(clip, clip.rgb, points, **given) for points in (xyz, exact, xyz)]
