"""Ground-truth tracks of the first frame's pixels of a procedural world, from the analytic motion of its objects."""

from dataclasses import dataclass

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world, world_seed
from fourdnex.datasets.worlds.scenes import World, WorldObject, sample_world
from fourdnex.geometry.cameras import invert_pose, project, transform_points, unproject

_UPSAMPLING = 4
"""Resolution of the depth maps that visibility is tested against, relative to the clip's."""
_DEPTH_TOLERANCE = 0.01
"""Relative depth by which a point may lie behind the depth map and still count as visible."""


@dataclass(frozen=True, eq=False)
class GroundTruthTracks:
    """One track per pixel of the first frame, in row-major order."""

    positions: np.ndarray  # [N, T, 3] float32, world
    visible: np.ndarray  # [N, T] bool
    moves: np.ndarray  # [N] bool, whether the pixel is on a moving object


def ground_truth_tracks(clip: Clip) -> GroundTruthTracks:
    """Tracks of a clip of `render_world` that covers the whole duration of its world."""
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    assert clip.dynamic_mask is not None
    seed = world_seed(clip.name)
    world = sample_world(seed)
    time = np.linspace(0.0, 1.0, clip.num_frames) if clip.num_frames > 1 else np.zeros(1)
    to_building = world.camera.pose(time[:1])[0]
    start = unproject(clip.depth[:1], clip.intrinsics, clip.camera_to_world[:1]).reshape(-1, 3).astype(np.float64)
    building = transform_points(start, to_building)
    positions = np.repeat(building[:, None], clip.num_frames, axis=1)
    moves = clip.dynamic_mask[0].reshape(-1)
    owner = _owners(world, building)
    for index, item in enumerate(world.objects):
        indices = np.flatnonzero(moves & (owner == index))
        center, yaw = item.pose(time)
        local = _to_object_axes(building[indices], center[0], yaw[0])
        for t in range(clip.num_frames):
            positions[indices, t] = _from_object_axes(local, center[t], yaw[t])
    positions = transform_points(positions, invert_pose(to_building)).astype(np.float32)
    return GroundTruthTracks(positions, _visibility(clip, seed, positions), moves)


def _to_object_axes(points: np.ndarray, center: np.ndarray, yaw: float) -> np.ndarray:
    """Points [N, 3] in the building's axes to the axes of an object."""
    x, y, z = (points - center).T
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], axis=-1)


def _from_object_axes(local: np.ndarray, center: np.ndarray, yaw: float) -> np.ndarray:
    """Inverse of `_to_object_axes`."""
    x, y, z = local.T
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.asarray(np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1) + center)


def _owners(world: World, points: np.ndarray) -> np.ndarray:
    """Index [N] of the moving object whose surface at time 0 is nearest to each point."""
    distances = np.full((len(world.objects), len(points)), np.inf)
    for index, item in enumerate(world.objects):
        if item.moves:
            center, yaw = item.pose(np.zeros(1))
            distances[index] = np.abs(_signed_distance(item, _to_object_axes(points, center[0], yaw[0])))
    return np.argmin(distances, axis=0)


def _signed_distance(item: WorldObject, local: np.ndarray) -> np.ndarray:
    """Distance to an object's surface in its axes; approximate, but enough to tell which object a point belongs to."""
    half = item.half
    if item.shape == "sphere":
        return np.asarray(np.linalg.norm(local, axis=-1) - half[0])
    if item.shape == "cylinder":
        return np.maximum(np.hypot(local[:, 0], local[:, 2]) - half[0], np.abs(local[:, 1]) - half[1])
    return np.asarray((np.abs(local) - half).max(axis=-1))


def _visibility(clip: Clip, seed: int, positions: np.ndarray) -> np.ndarray:
    """Whether the tracks [N, T] are inside the image and not occluded.

    A point is visible if it is not behind the farthest of the nine pixels around it in a finer depth map.
    """
    fine = render_world(
        seed, num_frames=clip.num_frames, height=_UPSAMPLING * clip.height, width=_UPSAMPLING * clip.width
    )
    assert fine.depth is not None and fine.intrinsics is not None and fine.camera_to_world is not None
    pixels, depth = project(positions.swapaxes(0, 1), fine.intrinsics, fine.camera_to_world)  # [T, N, 2], [T, N]
    visible = np.zeros(depth.shape, bool)
    for t in range(clip.num_frames):
        farthest = _farthest(fine.depth[t])
        with np.errstate(invalid="ignore"):
            x, y = np.round(pixels[t]).T
            inside = (x >= 0) & (x < fine.width) & (y >= 0) & (y < fine.height)
        seen = farthest[y[inside].astype(int), x[inside].astype(int)]
        visible[t, inside] = depth[t, inside] < seen * (1 + _DEPTH_TOLERANCE)
    return visible.T


def _farthest(depth: np.ndarray) -> np.ndarray:
    """Largest depth within 3x3 pixels."""
    import cv2

    return np.asarray(cv2.dilate(depth, np.ones((3, 3), np.uint8)))
