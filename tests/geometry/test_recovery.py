import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from fourdnex.evaluation import pose_metrics
from fourdnex.geometry import pixel_rays, recover_cameras, sloped_plane, transform_points, unproject


def intrinsics(width: int, height: int, focal: float) -> np.ndarray:
    return np.array([[focal * width, 0, (width - 1) / 2], [0, focal * width, (height - 1) / 2], [0, 0, 1]])


def moving_cameras(num_frames: int) -> np.ndarray:
    a = np.linspace(0, 1, num_frames)
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("yxz", np.stack([0.3 * a, 0.1 * np.sin(5 * a), 0.05 * a], -1)).as_matrix()
    poses[:, :3, 3] = np.stack([0.5 * a, 0.1 * np.sin(3 * a), 0.8 * a], axis=-1)
    return poses


def wavy_clip(num_frames: int = 5, height: int = 40, width: int = 60, focal: float = 0.9):
    """Intrinsics, poses, depth and exact point maps of a wavy scene that deforms over time."""
    y, x = np.mgrid[:height, :width]
    depth = np.stack(
        [3 + np.sin(x / width * 9 + 0.1 * t) + 0.7 * np.cos(y / height * 7) for t in range(num_frames)]
    ).astype(np.float32)
    k, poses = intrinsics(width, height, focal), moving_cameras(num_frames)
    return k, poses, depth, unproject(depth, k, poses)


def flat_clip(num_frames: int = 5, height: int = 40, width: int = 60, focal: float = 0.9):
    """Like `wavy_clip`, for a tilted plane: all points are coplanar."""
    k, poses = intrinsics(width, height, focal), moving_cameras(num_frames)
    normal, through = np.array([0.3, -0.6, -1.0]), np.array([0, 0, 4.0])
    rays = pixel_rays(height, width, k)
    depth = np.stack([(normal @ (through - p[:3, 3])) / ((rays @ p[:3, :3].T) @ normal) for p in poses])
    return k, poses, depth, unproject(depth.astype(np.float32), k, poses)


def rotation_error_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(np.swapaxes(a[:, :3, :3], 1, 2) @ b[:, :3, :3]).magnitude()).max())


@pytest.mark.parametrize("clip", [wavy_clip, flat_clip])
@pytest.mark.parametrize("focal", [0.5, 0.9, 2.0])
def test_exact_points_give_exact_cameras(clip, focal):
    k, poses, depth, points = clip(focal=focal)
    result = recover_cameras(points)
    assert result.rmse < 1e-4
    assert result.intrinsics == pytest.approx(k, rel=1e-3)
    assert rotation_error_deg(result.camera_to_world, poses) < 0.05
    assert np.abs(result.camera_to_world[:, :3, 3] - poses[:, :3, 3]).max() < 5e-3
    assert np.abs(result.depth / depth - 1).max() < 2e-3


@pytest.mark.parametrize("clip", [wavy_clip, flat_clip])
def test_one_percent_noise_reaches_the_noise_floor(clip):
    _, poses, _, points = clip(num_frames=8, height=120, width=180)
    noisy = points + 0.01 * np.random.default_rng(0).standard_normal(points.shape)
    result = recover_cameras(noisy)
    # Depth absorbs the noise along the ray, so two of three dimensions remain.
    assert result.rmse == pytest.approx(0.01 * np.sqrt(2 / 3), rel=0.01)
    assert rotation_error_deg(result.camera_to_world, poses) < 0.3


def test_recovery_is_invariant_to_world_similarity():
    _, poses, _, points = wavy_clip()
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("xyz", [2.0, -1.0, 0.5]).as_matrix()
    world[:3, 3] = [30, -20, 10]
    moved = transform_points(points * 100, world).astype(np.float32)
    result = recover_cameras(moved)
    expected = poses.copy()
    expected[:, :3, 3] *= 100
    assert rotation_error_deg(result.camera_to_world, world @ expected) < 0.1
    assert np.abs(result.camera_to_world[:, :3, 3] - (world @ expected)[:, :3, 3]).max() < 0.5


def test_recovery_tolerates_spatially_correlated_errors():
    _, poses, depth, points = wavy_clip(num_frames=9, height=64, width=96)
    rng = np.random.default_rng(1)
    error = gaussian_filter(rng.standard_normal(points.shape), [1, 8, 8, 0])
    result = recover_cameras(points + 0.1 * error / error.std())
    assert 0.7 < result.intrinsics[0, 0] / 96 < 1.1
    assert rotation_error_deg(result.camera_to_world, poses) < 8
    assert np.median(np.abs(result.depth / depth - 1)) < 0.08


def test_smoothing_reduces_correlated_errors_only():
    _, poses, _, points = wavy_clip(num_frames=12, height=64, width=96)
    rng = np.random.default_rng(2)
    patches = gaussian_filter(rng.standard_normal(points.shape), [0, 8, 8, 0])
    shaken = points + 0.1 * patches / patches.std()

    plain = pose_metrics(recover_cameras(shaken, smooth=False).camera_to_world, poses)
    smooth = pose_metrics(recover_cameras(shaken).camera_to_world, poses)
    assert smooth.ate < 0.5 * plain.ate and smooth.rpe_rotation_deg < 0.5 * plain.rpe_rotation_deg
    assert abs(np.log(smooth.length_ratio)) < 0.5 * abs(np.log(plain.length_ratio))

    # A sudden rotation within smooth motion is kept if the points are exact.
    poses[6:, :3, :3] = poses[6:, :3, :3] @ Rotation.from_euler("y", 5, degrees=True).as_matrix()
    k, depth = intrinsics(96, 64, 0.9), np.exp(rng.uniform(0, 1, (12, 64, 96)))
    assert rotation_error_deg(recover_cameras(unproject(depth, k, poses)).camera_to_world, poses) < 0.05


def test_gross_outliers_do_not_move_the_cameras():
    _, poses, _, points = wavy_clip()
    rng = np.random.default_rng(0)
    wrong = rng.random(points.shape[:3]) < 0.1
    points[wrong] += rng.normal(0, 3, (int(wrong.sum()), 3)).astype(np.float32)
    assert rotation_error_deg(recover_cameras(points).camera_to_world, poses) < 0.5


def test_holes_and_zero_confidence_are_ignored():
    _, poses, depth, points = wavy_clip()
    confidence = np.ones(points.shape[:3], np.float32)
    confidence[:, :, 30:] = 0
    points[:, :, 30:] += 5
    points[1, :20] = np.nan
    result = recover_cameras(points, confidence)
    assert rotation_error_deg(result.camera_to_world, poses) < 0.1
    assert np.isnan(result.depth[1, :20]).all()
    assert np.abs(result.depth[0, :, :30] / depth[0, :, :30] - 1).max() < 5e-3
    assert np.isfinite(result.rmse)


def test_known_intrinsics_are_kept():
    _, poses, _, points = wavy_clip()
    k = intrinsics(60, 40, 0.9)
    result = recover_cameras(points, intrinsics=k)
    assert result.intrinsics == pytest.approx(k)
    assert rotation_error_deg(result.camera_to_world, poses) < 0.05


def test_focal_length_of_an_ambiguous_scene_is_plausible():
    # A fronto-parallel plane fits every focal length; a parallel projection requires an infinite one.
    wall = unproject(np.full((3, 40, 60), 3.0), intrinsics(60, 40, 0.9), np.tile(np.eye(4), (3, 1, 1)))
    noisy = wall + 0.01 * np.random.default_rng(0).standard_normal(wall.shape)
    assert 0.5 < recover_cameras(noisy).intrinsics[0, 0] / 60 < 2
    plane = recover_cameras(np.tile(sloped_plane(40, 60), (9, 1, 1, 1)))
    assert plane.intrinsics[0, 0] / 60 <= 4.0001
    assert (plane.depth > 0).all()
    # Square pixels cannot explain the plane exactly, but equal frames have equal cameras.
    assert plane.rmse < 0.15
    assert rotation_error_deg(plane.camera_to_world, plane.camera_to_world[:1]) < 2


def test_single_frame():
    k, _, depth, points = wavy_clip(num_frames=1)
    result = recover_cameras(points)
    assert result.intrinsics == pytest.approx(k, rel=1e-3)
    assert result.depth == pytest.approx(depth, rel=2e-3)


def line(num_frames: int = 2) -> np.ndarray:
    along = np.linspace(0, 1, 20 * 30).reshape(20, 30, 1)
    return np.tile(along * [1.0, 2.0, 3.0], (num_frames, 1, 1, 1))


def few_valid() -> np.ndarray:
    points = wavy_clip()[3]
    points[2] = np.nan
    points[2, 0, :5] = 1
    return points


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 4, 3)), r"expected \[T, H, W, 3\]"),
        (np.zeros((0, 4, 4, 3)), r"expected \[T, H, W, 3\]"),
        (np.ones((2, 20, 30, 3)), "coincident"),
        (line(), "collinear"),
        (few_valid(), "frame 2 has 5 valid pixels"),
        (np.full((2, 20, 30, 3), np.nan), "0 valid pixels"),
        (np.random.default_rng(0).random((2, 2, 2, 3)), "frame 0 has 4 valid pixels, expected at least 12"),
        (np.zeros((2, 20, 30, 3), object), "expected real numbers, got object"),
        (wavy_clip()[3] + 1j, "expected real numbers, got complex"),
        (-wavy_clip()[3], "5 of 5 frames the points are behind the camera"),
        (wavy_clip()[3] * [1, 1, -1], "is an axis mirrored"),
    ],
)
def test_degenerate_input_raises(points, message):
    with pytest.raises(ValueError, match=message):
        recover_cameras(points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": np.ones((5, 40))}, r"confidence: expected \(5, 40, 60\), got \(5, 40\)"),
        ({"confidence": np.full((5, 40, 60), -1.0)}, "confidence: expected non-negative weights"),
        ({"intrinsics": np.eye(4)}, r"intrinsics: expected shape \(3, 3\)"),
        ({"intrinsics": np.zeros((3, 3))}, "positive focal lengths"),
        ({"principal_point": (1.0, np.nan)}, "principal_point: expected two finite numbers"),
        ({"principal_point": (1.0, 2.0), "intrinsics": intrinsics(60, 40, 1)}, "expected None with known intrinsics"),
        ({"focal_range": (2.0, 1.0)}, "focal_range: expected 0 < low < high"),
    ],
)
def test_errors_name_the_option(options, message):
    with pytest.raises(ValueError, match=message):
        recover_cameras(wavy_clip()[3], **options)


def test_an_off_center_principal_point_is_used():
    k, poses, depth, _ = wavy_clip()
    k[:2, 2] = 20.0, 24.0  # of a crop of a larger image, whose center is (29.5, 19.5)
    points = unproject(depth, k, poses)
    found = recover_cameras(points, principal_point=(20.0, 24.0))
    assert found.intrinsics == pytest.approx(k, rel=1e-3)
    assert rotation_error_deg(found.camera_to_world, poses) < 0.05 and found.rmse < 1e-4
    assert recover_cameras(points).rmse > 10 * found.rmse


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_any_real_dtype_is_accepted(dtype):
    _, poses, _, points = wavy_clip()
    assert rotation_error_deg(recover_cameras((1000 * points).astype(dtype)).camera_to_world, poses) < 0.1


def test_standard_deviations_match_repeated_noise():
    """The scatter of the cameras over independent noise equals the reported standard deviations."""
    points, found = wavy_clip()[3], []
    for seed in range(12):
        noise = 0.03 * np.random.default_rng(seed).standard_normal(points.shape)
        found.append(recover_cameras(points + noise.astype(np.float32), smooth=False, seed=seed))
    focal = np.array([one.intrinsics[0, 0] for one in found])
    assert 0.4 < focal.std() / np.mean([one.focal_std for one in found]) < 2.5
    position = np.stack([one.camera_to_world[:, :3, 3] for one in found])
    scatter = np.sqrt(position.var(axis=0).sum(axis=-1))
    assert 0.4 < np.median(scatter / np.mean([one.position_std for one in found], axis=0)) < 2.5
    assert all(one.is_focal_determined for one in found)
    assert np.allclose(np.sqrt((found[0].frame_rmse ** 2).mean()), found[0].rmse, rtol=1e-4)


def test_a_fronto_parallel_wall_does_not_determine_the_focal_length():
    y, x = np.mgrid[:24, :36].astype(np.float32)
    wall = np.stack([(x - 17.5) / 36, (y - 11.5) / 36, np.ones_like(x)], axis=-1)[None].repeat(3, axis=0)
    noisy = wall + 0.003 * np.random.default_rng(0).standard_normal(wall.shape).astype(np.float32)
    assert not recover_cameras(noisy).is_focal_determined
    assert recover_cameras(noisy, intrinsics=np.array([[36, 0, 17.5], [0, 36, 11.5], [0, 0, 1]])).is_focal_determined


@pytest.mark.parametrize("seed", [1, 2])
def test_outliers_holes_and_moving_objects_together(seed):
    """20 % random outliers, 30 % missing pixels, and half of the image moving along its rays."""
    k, poses, exact, _ = wavy_clip(num_frames=9, height=64, width=96)
    rng = np.random.default_rng(seed)
    depth = (exact * (1 + 0.01 * rng.standard_normal(exact.shape))).astype(np.float32)
    depth[:, :, 48:] *= np.linspace(1, 1.3, 9, dtype=np.float32)[:, None, None]
    points = unproject(depth, k, poses)
    low, high = points.reshape(-1, 3).min(axis=0), points.reshape(-1, 3).max(axis=0)
    outlier = rng.random(depth.shape) < 0.2
    points[outlier] = low + (high - low) * rng.random((int(outlier.sum()), 3))
    points[rng.random(depth.shape) < 0.3] = np.nan
    found = recover_cameras(points)
    assert rotation_error_deg(found.camera_to_world, poses) < 0.5
