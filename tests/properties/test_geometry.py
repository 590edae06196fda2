import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourdnex.geometry import (
    denormalize_pointmaps,
    invert_pose,
    normalize_pointmaps,
    project,
    relative_to_first,
    transform_points,
    umeyama,
    unproject,
)
from fourdnex.geometry.rotations import rotation_angle, rotation_angle_from_trace, rotation_from_vector, rotation_vector
from tests.properties.strategies import SMALL, depths, floats, generators, intrinsics, poses, rotations


@given(data=st.data(), num_frames=st.integers(1, 3), height=SMALL, width=SMALL)
def test_projection_inverts_unprojection(data, num_frames, height, width):
    depth = data.draw(depths((num_frames, height, width)))
    lens, cameras = data.draw(intrinsics(height, width)), data.draw(poses(num_frames))
    pixels, z = project(unproject(depth, lens, cameras), lens, cameras)
    valid = np.isfinite(depth)
    grid = np.broadcast_to(np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1), pixels.shape)
    # Positions up to 10 units away are stored in float32: an error of 2e-6 at a depth of 0.1.
    assert z[valid] == pytest.approx(depth[valid], rel=1e-4)
    assert np.abs(pixels[valid] - grid[valid]).max(initial=0) < 1e-3 * width
    assert np.isnan(pixels[~valid]).all() and np.isnan(z[~valid]).all()


@given(poses(3))
def test_inverting_a_pose_twice_restores_it(cameras):
    assert invert_pose(invert_pose(cameras)) == pytest.approx(cameras, abs=1e-12)
    assert invert_pose(cameras) @ cameras == pytest.approx(np.tile(np.eye(4), (3, 1, 1)), abs=1e-12)


@given(poses(3), poses(1))
def test_relative_poses_do_not_depend_on_the_world(cameras, world):
    relative = relative_to_first(cameras)
    assert (relative[0] == np.eye(4)).all()
    assert cameras[0] @ relative == pytest.approx(cameras, abs=1e-10)
    assert relative_to_first(world @ cameras) == pytest.approx(relative, abs=1e-10)
    assert relative_to_first(relative) == pytest.approx(relative, abs=1e-12)


@given(st.floats(0, np.pi), generators)
def test_the_angle_of_a_rotation_about_any_axis_is_recovered(angle, rng):
    axis = rng.normal(size=(1, 3))
    rotation = rotation_from_vector(angle * axis / np.linalg.norm(axis))
    assert rotation_angle(rotation)[0] == pytest.approx(angle, abs=1e-12)
    assert rotation_angle_from_trace(rotation)[0] == pytest.approx(angle, abs=1e-7)
    assert rotation @ np.swapaxes(rotation, 1, 2) == pytest.approx(np.eye(3)[None], abs=1e-12)


@given(rotations(3, max_angle=3.1))
def test_the_exponential_inverts_the_logarithm(matrices):
    assert rotation_from_vector(rotation_vector(matrices)) == pytest.approx(matrices, abs=1e-9)


@given(data=st.data(), scale=st.floats(0.01, 100), rng=generators, count=st.integers(4, 12))
def test_umeyama_recovers_a_similarity(data, scale, rng, count):
    source = rng.normal(size=(count, 3))
    (pose,) = data.draw(poses(1))
    target = scale * source @ pose[:3, :3].T + pose[:3, 3]
    found_scale, rotation, translation = umeyama(source, target, weights=rng.uniform(0.5, 1, count))
    assert found_scale == pytest.approx(scale, rel=1e-8)
    assert rotation == pytest.approx(pose[:3, :3], abs=1e-7)
    assert translation == pytest.approx(pose[:3, 3], abs=1e-7 * max(1, scale))
    rigid_scale, rotation, _ = umeyama(source, target, with_scale=False)
    assert rigid_scale == 1 and rotation == pytest.approx(pose[:3, :3], abs=1e-7)


@given(poses(1), hnp.arrays(np.float64, (4, 3), elements=st.floats(-100, 100)))
def test_transformed_points_keep_their_distances(pose, points):
    moved = transform_points(points, pose[0])
    assert np.linalg.norm(moved - moved[0], axis=1) == pytest.approx(
        np.linalg.norm(points - points[0], axis=1), abs=1e-9
    )
    assert transform_points(moved, invert_pose(pose[0])) == pytest.approx(points, abs=1e-9)


pointmaps = st.tuples(SMALL, SMALL, SMALL).flatmap(
    lambda size: hnp.arrays(np.float32, (*size, 3), elements=floats(-50, 50) | st.just(np.nan))
)


def has_extent(points: np.ndarray) -> bool:
    """Whether the points can be normalized without a loss of precision."""
    valid = points[np.isfinite(points).all(axis=-1)]
    return len(valid) > 1 and np.ptp(np.percentile(valid, [2, 98], axis=0), axis=0).max() > 1e-2


@given(pointmaps.filter(has_extent))
def test_normalization_per_clip_is_inverted(points):
    normalized, normalization = normalize_pointmaps(points)
    restored = denormalize_pointmaps(normalized, normalization)
    assert restored == pytest.approx(points, abs=1e-4, nan_ok=True)
    valid = normalized[np.isfinite(points).all(axis=-1)]
    low, high = np.percentile(valid, [2, 98], axis=0)
    assert low + high == pytest.approx(np.zeros(3), abs=1e-2)  # centered
    assert (high - low).max() == pytest.approx(2, abs=1e-2)  # one scale: the largest extent is from -1 to 1


@settings(max_examples=10)
@given(pointmaps.filter(lambda points: all(map(has_extent, points))))
def test_normalization_per_frame_is_inverted_within_the_percentiles(points):
    normalized, normalization = normalize_pointmaps(points, per="frame")
    restored = denormalize_pointmaps(normalized, normalization)
    assert np.nanmax(np.abs(normalized)) <= 1 + 1e-5
    for frame, (before, after) in enumerate(zip(points, restored, strict=True)):
        valid = np.isfinite(before).all(axis=-1)
        low, high = np.percentile(before[valid], [2, 98], axis=0)
        assert after[valid] == pytest.approx(np.clip(before[valid], low, high), abs=1e-3), frame
