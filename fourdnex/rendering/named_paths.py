"""Camera paths by name, for `fourdnex render --path`."""

from collections.abc import Callable

import numpy as np

from fourdnex.motion.segmentation import moving_pixels
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.trajectories import look_at, orbit, scene_pivot, swing, turntable
from fourdnex.scene import Scene4D

_FOLLOW_SMOOTHING = 0.15  # half width of the running mean of the followed point, as a fraction of the views
_MIN_MOVING = 0.003  # fraction of the pixels of a frame


def named_path(scene: Scene4D, name: str, num_views: int, *, strength: float = 1.0) -> CameraPath:
    """A camera path by its name; scene time runs from the first frame to the last.

    swing        a small orbit to the left, to the right and back (loop)
    orbit        an arc around the pivot, from 30 degrees on the right to 30 degrees on the left
    turntable    a full orbit around the pivot; the back of a scene from one image is empty
    dolly        forward to a third of the distance to the pivot, and back (loop)
    truck        sideways to the left, to the right and back, looking straight ahead (loop)
    spiral       two turns around the first camera, looking at the pivot (loop)
    dolly-zoom   backward while the focal length increases, so that objects at the pivot keep their size
    static       the first camera
    follow       looks at the moving objects and moves with them by half their motion; in a static scene, the scene's
                 cameras from slightly behind and above
    input        the scene's cameras

    The pivot is `scene_pivot`. All paths except the last two start from the pose and intrinsics of the first camera.

    Args:
        name: one of `PATH_NAMES`.
        strength: factor of the amplitudes above.

    Raises:
        ValueError: unknown name, no views, a strength that is not finite, or a scene without depth.
    """
    if name not in _PATHS:
        raise ValueError(f"path: expected one of {', '.join(PATH_NAMES)}, got {name!r}")
    if num_views < 1:
        raise ValueError(f"num_views: expected at least 1, got {num_views}")
    if not np.isfinite(strength):
        raise ValueError(f"strength: expected a finite number, got {strength}")
    times = np.linspace(0, 1, num_views) if num_views > 1 else np.zeros(1)
    poses, focal = _PATHS[name](scene, times, strength)
    intrinsics = np.tile(scene.intrinsics.astype(np.float64), (num_views, 1, 1))
    intrinsics[:, [0, 1], [0, 1]] *= focal[:, None]
    return CameraPath(camera_to_world=poses, intrinsics=intrinsics, times=times)


_Poses = tuple[np.ndarray, np.ndarray]  # poses [N, 4, 4] and factors [N] of the focal lengths


def _swing(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """A small orbit to both sides."""
    return swing(scene, len(times), degrees=15 * strength), np.ones(len(times))


def _orbit(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """An arc from right to left."""
    azimuth = 30 * strength * (2 * _eased(times) - 1)
    return orbit(_first_pose(scene), scene_pivot(scene), azimuth, 5 * strength), np.ones(len(times))


def _turntable(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """A full orbit."""
    return turntable(scene, len(times), elevation_deg=15 * strength), np.ones(len(times))


def _dolly(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """Forward and back."""
    forward = strength / 3 * (1 - np.cos(_phase(times))) / 2
    return _translated(scene, np.stack([0 * forward, 0 * forward, forward], axis=-1)), np.ones(len(times))


def _truck(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """Sideways to both sides."""
    right = -0.15 * strength * np.sin(_phase(times))
    return _translated(scene, np.stack([right, 0 * right, 0 * right], axis=-1)), np.ones(len(times))


def _spiral(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """Two turns around the first camera."""
    phase = 2 * _phase(times)
    radius = 0.12 * strength * np.sin(_phase(times) / 2)
    offset = np.stack([radius * np.cos(phase), 0.6 * radius * np.sin(phase), 0.5 * radius * np.sin(phase / 2)], axis=-1)
    poses, pivot, down = _translated(scene, offset), scene_pivot(scene), _first_pose(scene)[:3, 1]
    return np.stack([look_at(pose[:3, 3], pivot, down) for pose in poses]), np.ones(len(times))


def _dolly_zoom(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """Backward with increasing focal length."""
    backward = 0.8 * strength * _eased(times)
    if not (1 + backward > 0.05).all():
        raise ValueError(f"strength: expected more than -1.18 for a dolly-zoom, got {strength}")
    # The image size of an object is proportional to focal length / distance.
    return _translated(scene, np.stack([0 * backward, 0 * backward, -backward], axis=-1)), 1 + backward


def _static(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """The first camera."""
    return np.tile(_first_pose(scene), (len(times), 1, 1)), np.ones(len(times))


def _input(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """The scene's cameras."""
    return _interpolated(scene.camera_to_world, times), np.ones(len(times))


def _follow(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    """Looks at moving objects; in a static scene, the scene's cameras from behind and above."""
    centers = _moving_centers(scene)
    if centers is None:
        poses = _interpolated(scene.camera_to_world, times)
        offset = _pivot_distance(scene) * strength * np.array([0, -0.05, -0.15])
        poses[:, :3, 3] += np.einsum("nij,j->ni", poses[:, :3, :3], offset)
        return poses, np.ones(len(times))
    position = times * (scene.num_frames - 1)
    targets = np.stack([np.interp(position, np.arange(scene.num_frames), centers[:, i]) for i in range(3)], axis=-1)
    targets = _smoothed(targets, max(1, round(_FOLLOW_SMOOTHING * len(times))))
    first = _first_pose(scene)
    eyes = first[:3, 3] + 0.5 * strength * (targets - targets[0])
    poses = np.stack([look_at(eye, target, first[:3, 1]) for eye, target in zip(eyes, targets, strict=True)])
    return poses, np.ones(len(times))


_PATHS: dict[str, Callable[[Scene4D, np.ndarray, float], _Poses]] = {
    "swing": _swing,
    "orbit": _orbit,
    "turntable": _turntable,
    "dolly": _dolly,
    "truck": _truck,
    "spiral": _spiral,
    "dolly-zoom": _dolly_zoom,
    "static": _static,
    "follow": _follow,
    "input": _input,
}
PATH_NAMES = tuple(_PATHS)


def _moving_centers(scene: Scene4D) -> np.ndarray | None:
    """Median [T, 3] of the moving points in every frame; None if fewer than two frames have enough of them."""
    moving_frames, centers = [], []
    for t, moving in enumerate(moving_pixels(scene)):
        moving = moving & np.isfinite(scene.depth[t])
        if moving.mean() >= _MIN_MOVING:
            rows, columns = np.nonzero(moving)
            z = scene.depth[t][moving].astype(np.float64)
            rays = np.linalg.solve(scene.intrinsics.astype(np.float64), np.stack([columns, rows, np.ones_like(rows)]))
            pose = scene.camera_to_world[t].astype(np.float64)
            centers.append(pose[:3, :3] @ np.median(rays * z, axis=1) + pose[:3, 3])
            moving_frames.append(t)
    if len(moving_frames) < 2:
        return None
    frames, points = np.arange(scene.num_frames), np.stack(centers)
    return np.stack([np.interp(frames, moving_frames, points[:, i]) for i in range(3)], axis=-1)


def _interpolated(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses at times in [0, 1]: translations interpolated linearly, rotations spherically."""
    from scipy.spatial.transform import Rotation, Slerp

    poses = poses.astype(np.float64)
    if len(poses) == 1:
        return np.tile(poses[0], (len(times), 1, 1))
    frames, position = np.arange(len(poses)), times * (len(poses) - 1)
    interpolated = np.tile(np.eye(4), (len(times), 1, 1))
    interpolated[:, :3, :3] = Slerp(frames, Rotation.from_matrix(poses[:, :3, :3]))(position).as_matrix()
    interpolated[:, :3, 3] = np.stack([np.interp(position, frames, poses[:, i, 3]) for i in range(3)], axis=-1)
    return interpolated


def _translated(scene: Scene4D, offsets: np.ndarray) -> np.ndarray:
    """The first camera translated by [N, 3] along its axes, in units of the distance to the pivot."""
    first = _first_pose(scene)
    poses = np.tile(first, (len(offsets), 1, 1))
    poses[:, :3, 3] += _pivot_distance(scene) * offsets @ first[:3, :3].T
    return poses


def _pivot_distance(scene: Scene4D) -> float:
    """Distance of the pivot from the first camera."""
    return float(np.linalg.norm(scene_pivot(scene) - _first_pose(scene)[:3, 3]))


def _first_pose(scene: Scene4D) -> np.ndarray:
    """Pose [4, 4] float64 of the first camera."""
    return scene.camera_to_world[0].astype(np.float64)


def _phase(times: np.ndarray) -> np.ndarray:
    """Phase of one cycle, in radians."""
    return 2 * np.pi * times


def _eased(times: np.ndarray) -> np.ndarray:
    """Cosine easing from 0 to 1."""
    return (1 - np.cos(np.pi * times)) / 2


def _smoothed(points: np.ndarray, width: int) -> np.ndarray:
    """Running mean of points [N, 3] over 2 width + 1 views, with repeated ends."""
    padded = np.pad(points, ((width, width), (0, 0)), mode="edge")
    kernel = np.ones(2 * width + 1) / (2 * width + 1)
    return np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in range(3)], axis=-1)
