"""Exact tracks of a procedural world's first-frame pixels, from the analytic motion of its objects."""

from dataclasses import dataclass

import numpy as np

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world, world_seed
from fourdnex.datasets.worlds.scenes import World, WorldObject, sample_world
from fourdnex.geometry.cameras import invert_pose, project, transform_points, unproject

_FINER = 4
"""Visibility is looked up in depth maps of so many times the resolution."""
_SAME_DEPTH = 0.01


@dataclass(frozen=True, eq=False)
class TrueTracks:
    """Of every pixel of the first frame, in row-major order."""

    positions: np.ndarray  # [N, T, 3] float32, world
    visible: np.ndarray  # [N, T] bool
    moves: np.ndarray  # [N] bool: on an object that moves


def true_tracks(clip: Clip) -> TrueTracks:
    """The tracks of a clip of `render_world`, its frames all of its world's time."""
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
    for index, thing in enumerate(world.objects):
        mine = np.flatnonzero(moves & (owner == index))
        center, yaw = thing.pose(time)
        own = _to_own_axes(building[mine], center[0], yaw[0])
        for t in range(clip.num_frames):
            positions[mine, t] = _from_own_axes(own, center[t], yaw[t])
    positions = transform_points(positions, invert_pose(to_building)).astype(np.float32)
    return TrueTracks(positions, _visibility(clip, seed, positions), moves)


def _to_own_axes(points: np.ndarray, center: np.ndarray, yaw: float) -> np.ndarray:
    x, y, z = (points - center).T
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], axis=-1)


def _from_own_axes(own: np.ndarray, center: np.ndarray, yaw: float) -> np.ndarray:
    x, y, z = own.T
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.asarray(np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1) + center)


def _owners(world: World, points: np.ndarray) -> np.ndarray:
    """The moving object whose surface at time 0 is nearest to each point [N]."""
    distances = np.full((len(world.objects), len(points)), np.inf)
    for index, thing in enumerate(world.objects):
        if thing.moves:
            center, yaw = thing.pose(np.zeros(1))
            distances[index] = np.abs(_signed_distance(thing, _to_own_axes(points, center[0], yaw[0])))
    return np.argmin(distances, axis=0)


def _signed_distance(thing: WorldObject, own: np.ndarray) -> np.ndarray:
    """Distance to an object's surface on its own axes, near it exact enough to tell objects apart."""
    half = thing.half
    if thing.shape == "sphere":
        return np.asarray(np.linalg.norm(own, axis=-1) - half[0])
    if thing.shape == "cylinder":
        return np.maximum(np.hypot(own[:, 0], own[:, 2]) - half[0], np.abs(own[:, 1]) - half[1])
    return np.asarray((np.abs(own) - half).max(axis=-1))


def _visibility(clip: Clip, seed: int, positions: np.ndarray) -> np.ndarray:
    """Which tracks [N, T] lie inside the image with nothing in front of them.

    A point lies no deeper than the farthest of the nine pixels around it in a finer depth map.
    """
    fine = render_world(seed, num_frames=clip.num_frames, height=_FINER * clip.height, width=_FINER * clip.width)
    assert fine.depth is not None and fine.intrinsics is not None and fine.camera_to_world is not None
    pixels, depth = project(positions.swapaxes(0, 1), fine.intrinsics, fine.camera_to_world)  # [T, N, 2], [T, N]
    visible = np.zeros(depth.shape, bool)
    for t in range(clip.num_frames):
        farthest = _farthest(fine.depth[t])
        with np.errstate(invalid="ignore"):
            x, y = np.round(pixels[t]).T
            inside = (x >= 0) & (x < fine.width) & (y >= 0) & (y < fine.height)
        seen = farthest[y[inside].astype(int), x[inside].astype(int)]
        visible[t, inside] = depth[t, inside] < seen * (1 + _SAME_DEPTH)
    return visible.T


def _farthest(depth: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.dilate(depth, np.ones((3, 3), np.uint8)))
