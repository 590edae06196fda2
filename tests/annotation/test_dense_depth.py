"""Dense depth: exact on a textured plane, unknown without texture, and refused without points."""

import cv2
import numpy as np
import pytest

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.dense_depth import choose_sources, confidence, estimate
from fourdnex.annotation.structure_from_motion import Structure

HEIGHT, WIDTH, FOCAL, DEPTH, STEP = 64, 96, 80.0, 2.0, 0.05


def plane_clip(num_frames: int = 5) -> tuple[np.ndarray, Structure]:
    """Frames of a textured plane at z = 2, and a camera that moves right by 2 pixels of its image per frame."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, 2 * WIDTH)).astype(np.float32), (0, 0), 1.2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    shift = round(FOCAL * STEP / DEPTH)
    frames = np.stack([texture[:, shift * t : shift * t + WIDTH] for t in range(num_frames)])
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, 0, 3] = STEP * np.arange(num_frames)
    depths = np.linspace(1.2, 4, 40)
    points = np.stack([np.zeros(40), np.zeros(40), depths], axis=1)
    intrinsics = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
    structure = Structure(intrinsics, poses, points, np.ones((num_frames, 40), bool), 0.3)
    return np.repeat(frames[..., None], 3, axis=-1).astype(np.uint8), structure


def test_depth_of_a_textured_plane_is_exact_and_sure():
    rgb, structure = plane_clip()
    dense = estimate(rgb, structure)
    inner = dense.depth[2, 8:-8, 12:-12]
    assert np.isfinite(inner).mean() > 0.95
    assert np.nanmedian(np.abs(inner / DEPTH - 1)) < 0.01
    assert dense.confidence[2, 8:-8, 12:-12].mean() > 0.5


def test_depth_is_unknown_without_texture_and_confidence_is_zero_there():
    rgb, structure = plane_clip()
    rgb[:, 16:48, 24:72] = 128
    dense = estimate(rgb, structure)
    assert np.isnan(dense.depth[:, 28:36, 36:60]).all()
    assert not dense.confidence[np.isnan(dense.depth)].any()


def test_estimate_is_deterministic():
    rgb, structure = plane_clip(3)
    first, second = estimate(rgb, structure), estimate(rgb, structure)
    np.testing.assert_array_equal(first.depth, second.depth)
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_a_frame_without_points_is_refused():
    rgb, structure = plane_clip(3)
    structure.observed[1] = False
    with pytest.raises(AnnotationError, match="frame 1: expected at least 10 visible points, got 0"):
        estimate(rgb, structure)


def test_confidence_rises_with_parallax_and_is_zero_where_depth_is_unknown():
    cues = np.tile(np.array([0, 0.9, 0.1, 1, -5, -3], np.float32), (1, 1, 3, 1))
    cues[..., 0] = np.log([5, 50, 50])
    result = confidence(np.array([[[1, 1, np.nan]]]), cues)[0, 0]
    assert 0 < result[0] < result[1] <= 1
    assert result[2] == 0


def test_sources_are_at_the_preferred_angle():
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3] = np.tan(np.deg2rad(1.25)) * np.arange(9)  # 5 degrees from frame 0 are at frame 4
    assert choose_sources(poses, np.ones((9, 2)))[0] == [3, 4, 5, 6]
