"""A corner of textured planes, rendered exactly at any size, with ground-truth cameras and depth."""

from collections.abc import Callable

import numpy as np
import pytest

from fourdnex.clip import Clip
from fourdnex.geometry.cameras import pixel_rays, relative_to_first

# (normal n, distance d) of the planes n . X = d in the world frame: floor, back wall, left wall.
PLANES = ((np.array([0.0, 1.0, 0.0]), 1.0), (np.array([0.25, 0.0, 1.0]), 5.0), (np.array([-1.0, 0.0, 0.35]), 2.5))


@pytest.fixture(scope="session")
def corner() -> Callable[..., Clip]:
    """`corner(num_frames=, height=, width=, amount=)`: the camera orbits a point at distance 4 by `amount` radians."""

    def render(*, num_frames: int, height: int, width: int, amount: float) -> Clip:
        intrinsics = np.array([[0.9 * width, 0, (width - 1) / 2], [0, 0.9 * width, (height - 1) / 2], [0, 0, 1]])
        poses = np.stack([_pose(amount * t) for t in np.linspace(-0.5, 0.5, num_frames)])
        views = [_view(pose, intrinsics, height, width) for pose in poses]
        return Clip(
            name="corner",
            rgb=np.stack([rgb for rgb, _ in views]),
            depth=np.stack([depth for _, depth in views]).astype(np.float32),
            intrinsics=intrinsics.astype(np.float32),
            camera_to_world=relative_to_first(poses).astype(np.float32),
        )

    return render


def _pose(angle: float) -> np.ndarray:
    """Camera at `angle` on a circle of radius 4 around (0, 0, 4), looking at the center, with small vertical motion."""
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = np.array([0, 0, 4]) - 4 * pose[:3, 2] + np.array([0, -0.6 * angle, 0.5 * angle])
    return pose


def _view(pose: np.ndarray, intrinsics: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rays = pixel_rays(height, width, intrinsics) @ pose[:3, :3].T  # z in the camera's frame is 1
    depth = np.full((height, width), np.inf)
    gray = np.zeros((height, width))
    for number, (normal, distance) in enumerate(PLANES):
        with np.errstate(divide="ignore"):
            z = (distance - normal @ pose[:3, 3]) / (rays @ normal)
        nearest = (z > 0) & (z < depth)
        depth[nearest] = z[nearest]
        points = pose[:3, 3] + rays[nearest] * z[nearest][:, None]
        gray[nearest] = _texture(points, seed=number)
    rgb = np.repeat(np.rint(gray * 255).astype(np.uint8)[..., None], 3, axis=-1)
    return rgb, depth


def _texture(points: np.ndarray, seed: int) -> np.ndarray:
    """Luminance in [0, 1] at points [N, 3]: 60 waves of random direction and length, independent of the viewpoint."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(60, 3))
    waves *= (2 * np.pi / rng.uniform(0.18, 1.2, 60) / np.linalg.norm(waves, axis=1))[:, None]
    value = np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 60)).sum(axis=1)
    return np.clip(0.5 + value / 25, 0, 1)
