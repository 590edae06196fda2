import numpy as np
import pytest
import torch

from fourdnex.rendering import render_frame
from fourdnex.rendering.splat import DEPTH_BIAS, MAX_FOOTPRINT, splat
from fourdnex.scene import Scene4D

K = np.array([[10.0, 0, 4.5], [0, 10, 3.5], [0, 0, 1]])


def make_scene(depth: np.ndarray | None = None) -> Scene4D:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :10]
    if depth is None:
        depth = np.stack([3 + 0.1 * x + 0.05 * y + t for t in range(2)])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.5
    return Scene4D(
        rgb=rng.integers(0, 256, (2, 8, 10, 3), dtype=np.uint8), depth=depth, intrinsics=K, camera_to_world=poses
    )


def test_view_from_its_own_camera_is_the_frame():
    scene = make_scene()
    for t in range(2):
        view = render_frame(scene, t, scene.camera_to_world[t])
        assert (view.image == scene.rgb[t]).all()
        assert view.depth == pytest.approx(scene.depth[t], rel=1e-5)


def test_zoom_interpolates_on_surfaces_and_not_across_edges():
    depth = np.full((2, 8, 10), 2.0)
    depth[:, :, 5:] = 8.0
    scene = make_scene(depth)
    view = render_frame(scene, 0, scene.camera_to_world[0], zoom=2)
    # Fine column 2 i + 1 is at i + 1/4; the same holds for rows.
    own = scene.rgb[0].astype(float)
    blended = 0.75 * (0.75 * own[2, 2] + 0.25 * own[2, 3]) + 0.25 * (0.75 * own[3, 2] + 0.25 * own[3, 3])
    assert view.image[5, 5] == pytest.approx(blended, abs=0.51)
    assert view.image[5, 9] == pytest.approx(0.75 * own[2, 4] + 0.25 * own[3, 4], abs=0.51)
    assert (view.depth[:, :10] == 2).all() and (view.depth[:, 10:] == 8).all()


def test_surface_has_no_gaps_from_a_nearer_camera():
    scene = make_scene()
    camera = np.eye(4)
    camera[2, 3] = 1.5
    assert np.isfinite(render_frame(scene, 0, camera).depth).all()


def test_surfaces_are_not_connected_across_depth_edges():
    depth = np.full((2, 8, 10), 2.0)
    depth[:, :, 5:] = 8.0
    camera = np.eye(4)
    camera[0, 3] = -1.0  # to the left: the edge opens by 10 * (1/2 - 1/8) = 3.75 pixels
    view = render_frame(make_scene(depth), 0, camera)
    assert np.isinf(view.depth).any(axis=1).all() or (view.depth[:, 9] < 3).all()
    camera[0, 3] = 1.0
    holes = np.isinf(render_frame(make_scene(depth), 0, camera).depth[:, :8]).sum(axis=1)
    assert (holes >= 3).all()


def brute_force(x, y, z, wide, high, height, width):
    """Reference implementation over all pixels and points, in float32 like the renderer, so that ties break equally."""
    owner = np.full((height, width), len(x))
    best = np.full((height, width), np.inf, np.float32)
    for i in range(len(x)):
        if not 0 < z[i] < np.inf:
            continue
        sizes = [np.clip(np.ceil(size - np.float32(0.003)), 1, MAX_FOOTPRINT) for size in (wide[i], high[i])]
        left, top = (np.floor(v - size * np.float32(0.5) + 1) for v, size in zip((x[i], y[i]), sizes, strict=True))
        for row in range(int(sizes[1])):
            for column in range(int(sizes[0])):
                r, c = int(top) + row, int(left) + column
                if 0 <= r < height and 0 <= c < width:
                    across, down = abs(left - x[i] + np.float32(column)), abs(top - y[i] + np.float32(row))
                    bias = down * np.float32(DEPTH_BIAS) * z[i]
                    rank = (across * np.float32(DEPTH_BIAS) + np.float32(1)) * z[i] + bias
                    if rank < best[r, c]:
                        best[r, c], owner[r, c] = rank, i
    return owner


def test_every_pixel_shows_the_nearest_point_that_covers_it():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-6, 26, 100).astype(np.float32), rng.uniform(-6, 18, 100).astype(np.float32)
    z = rng.choice([1.0, 1.01, 2.0, 3.0, -1.0, np.nan, np.inf], 100).astype(np.float32)
    wide, high = rng.uniform(0.2, 10, (2, 100)).astype(np.float32)
    owner, depth = splat(*(torch.from_numpy(v) for v in (x, y, z, wide, high)), height=12, width=20)
    expected = brute_force(x, y, z, wide, high, 12, 20)
    assert (owner.numpy() == expected).all()
    assert (depth.numpy() == np.append(z, np.inf).astype(np.float32)[expected]).all()
    assert len(np.unique(expected)) > 20


def test_depth_bias_assigns_pixels_to_the_nearest_center():
    x, z = torch.tensor([2.0, 4.0]), torch.tensor([2.0, 1.999])
    owner, _ = splat(x, torch.zeros(2), z, torch.full((2,), 5.0), torch.ones(2), height=1, width=7)
    assert owner[0].tolist() == [0, 0, 0, 1, 1, 1, 1]  # pixel 3 is equally near to both; depth decides
