"""Camera paths by name: what `fourdnex render --path` offers."""

from collections.abc import Callable

import numpy as np

from fourdnex.motion.segmentation import moving_pixels
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.trajectories import look_at, orbit, scene_pivot, swing, turntable
from fourdnex.scene import Scene4D

_CHASE_LAG = 0.15  # of the views: how long a follower takes to react
_LEAST_MOVING = 0.003  # of the pixels


def named_path(scene: Scene4D, name: str, num_views: int, *, strength: float = 1.0) -> CameraPath:
    """One of PATH_NAMES through a scene, while its time runs from the first frame to the last.

    swing        sways around the scene's middle, left, right and back (a loop)
    orbit        an arc around the middle, from 30 degrees on the right to 30 on the left
    turntable    once around the middle; the back of a scene from one image is empty
    dolly        towards the middle, a third of the way, and back (a loop)
    truck        sideways, left, right and back, looking straight ahead (a loop)
    spiral       two turns around the first camera's place, looking at the middle (a loop)
    dolly-zoom   backwards while the lens narrows, so that what is at the middle keeps its size
    static       the first camera, standing still
    follow       goes with what moves in the scene, half its way, and keeps looking at it; where nothing moves, goes
                 with the input's cameras, a little behind and above
    input        the input's own cameras

    The middle is `scene_pivot`. All but the last two start from the first camera's place and lens.

    Args:
        strength: how far the camera goes, in the amounts above.

    Raises:
        ValueError: another name, no views, a strength that is not finite, or a scene without any depth.
    """
    if name not in _PATHS:
        raise ValueError(f"path: expected one of {', '.join(PATH_NAMES)}, got {name!r}")
    if num_views < 1:
        raise ValueError(f"num_views: expected at least 1, got {num_views}")
    if not np.isfinite(strength):
        raise ValueError(f"strength: expected a finite number, got {strength}")
    times = np.linspace(0, 1, num_views) if num_views > 1 else np.zeros(1)
    poses, focal = _PATHS[name](scene, times, strength)
    lenses = np.tile(scene.intrinsics.astype(np.float64), (num_views, 1, 1))
    lenses[:, [0, 1], [0, 1]] *= focal[:, None]
    return CameraPath(camera_to_world=poses, intrinsics=lenses, times=times)


_Poses = tuple[np.ndarray, np.ndarray]  # [N, 4, 4], and [N] by what the focal lengths are multiplied


def _swing(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    return swing(scene, len(times), degrees=15 * strength), np.ones(len(times))


def _orbit(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    azimuth = 30 * strength * (2 * _eased(times) - 1)
    return orbit(_first(scene), scene_pivot(scene), azimuth, 5 * strength), np.ones(len(times))


def _turntable(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    return turntable(scene, len(times), elevation_deg=15 * strength), np.ones(len(times))


def _dolly(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    ahead = strength / 3 * (1 - np.cos(_phase(times))) / 2
    return _shifted(scene, np.stack([0 * ahead, 0 * ahead, ahead], axis=-1)), np.ones(len(times))


def _truck(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    aside = -0.15 * strength * np.sin(_phase(times))
    return _shifted(scene, np.stack([aside, 0 * aside, 0 * aside], axis=-1)), np.ones(len(times))


def _spiral(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    phase = 2 * _phase(times)
    radius = 0.12 * strength * np.sin(_phase(times) / 2)
    offset = np.stack([radius * np.cos(phase), 0.6 * radius * np.sin(phase), 0.5 * radius * np.sin(phase / 2)], axis=-1)
    poses, pivot, down = _shifted(scene, offset), scene_pivot(scene), _first(scene)[:3, 1]
    return np.stack([look_at(pose[:3, 3], pivot, down) for pose in poses]), np.ones(len(times))


def _dolly_zoom(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    back = 0.8 * strength * _eased(times)
    if not (1 + back > 0.05).all():
        raise ValueError(f"strength: expected more than -1.18 for a dolly-zoom, got {strength}")
    # A thing at distance d and one at d (1 + back) look equally large when the focal length grows as the distance.
    return _shifted(scene, np.stack([0 * back, 0 * back, -back], axis=-1)), 1 + back


def _static(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    return np.tile(_first(scene), (len(times), 1, 1)), np.ones(len(times))


def _input(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    return _along(scene.camera_to_world, times), np.ones(len(times))


def _follow(scene: Scene4D, times: np.ndarray, strength: float) -> _Poses:
    centers = _moving_centers(scene)
    if centers is None:
        poses = _along(scene.camera_to_world, times)
        back = _pivot_distance(scene) * strength * np.array([0, -0.05, -0.15])
        poses[:, :3, 3] += np.einsum("nij,j->ni", poses[:, :3, :3], back)
        return poses, np.ones(len(times))
    place = times * (scene.num_frames - 1)
    target = np.stack([np.interp(place, np.arange(scene.num_frames), centers[:, i]) for i in range(3)], axis=-1)
    target = _smoothed(target, max(1, round(_CHASE_LAG * len(times))))
    start = _first(scene)
    eyes = start[:3, 3] + 0.5 * strength * (target - target[0])
    return np.stack([look_at(eye, to, start[:3, 1]) for eye, to in zip(eyes, target, strict=True)]), np.ones(len(times))


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
    """The median point [T, 3] of what moves at every frame; None where next to nothing does."""
    found, centers = [], []
    for t, moving in enumerate(moving_pixels(scene)):
        moving = moving & np.isfinite(scene.depth[t])
        if moving.mean() >= _LEAST_MOVING:
            rows, columns = np.nonzero(moving)
            z = scene.depth[t][moving].astype(np.float64)
            rays = np.linalg.solve(scene.intrinsics.astype(np.float64), np.stack([columns, rows, np.ones_like(rows)]))
            pose = scene.camera_to_world[t].astype(np.float64)
            centers.append(pose[:3, :3] @ np.median(rays * z, axis=1) + pose[:3, 3])
            found.append(t)
    if len(found) < 2:
        return None
    frames, points = np.arange(scene.num_frames), np.stack(centers)
    return np.stack([np.interp(frames, found, points[:, i]) for i in range(3)], axis=-1)


def _along(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses at fractions of the whole way: places linearly between, turns by the shortest arc."""
    from scipy.spatial.transform import Rotation, Slerp

    poses = poses.astype(np.float64)
    if len(poses) == 1:
        return np.tile(poses[0], (len(times), 1, 1))
    frames, place = np.arange(len(poses)), times * (len(poses) - 1)
    between = np.tile(np.eye(4), (len(times), 1, 1))
    between[:, :3, :3] = Slerp(frames, Rotation.from_matrix(poses[:, :3, :3]))(place).as_matrix()
    between[:, :3, 3] = np.stack([np.interp(place, frames, poses[:, i, 3]) for i in range(3)], axis=-1)
    return between


def _shifted(scene: Scene4D, offsets: np.ndarray) -> np.ndarray:
    """The first camera moved by [N, 3] along its own axes, in distances to the scene's middle."""
    start = _first(scene)
    poses = np.tile(start, (len(offsets), 1, 1))
    poses[:, :3, 3] += _pivot_distance(scene) * offsets @ start[:3, :3].T
    return poses


def _pivot_distance(scene: Scene4D) -> float:
    return float(np.linalg.norm(scene_pivot(scene) - _first(scene)[:3, 3]))


def _first(scene: Scene4D) -> np.ndarray:
    return scene.camera_to_world[0].astype(np.float64)


def _phase(times: np.ndarray) -> np.ndarray:
    return 2 * np.pi * times


def _eased(times: np.ndarray) -> np.ndarray:
    """From 0 to 1, slow at both ends."""
    return (1 - np.cos(np.pi * times)) / 2


def _smoothed(track: np.ndarray, width: int) -> np.ndarray:
    """Running mean [N, 3] over 2 width + 1 views, ends held."""
    padded = np.pad(track, ((width, width), (0, 0)), mode="edge")
    kernel = np.ones(2 * width + 1) / (2 * width + 1)
    return np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in range(3)], axis=-1)
