"""Camera recovery against its targets and the reference implementation: `python -m benchmarks.camera_recovery`

The reference method is reimplemented here from its description: rotations as two columns, translations, fx, fy, cx, cy
and one depth per pixel are optimized by Adam, 1,500 steps at learning rate 5e-3 on all pixels, with the mean squared
distance as the loss. Its rotations are initialized with the first column twice, which makes them matrices of rank 1;
its focal lengths with 1.2 image sizes; its depths with the distances of the points from the origin. A second row
initializes the rotations with the identity instead. Noise is Gaussian with 1 % of a point's depth, equal in x, y and z.
"""

import threading
import time

import numpy as np
import psutil
import torch

from benchmarks.measuring import time_work
from benchmarks.reporting import argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world
from fourdnex.geometry import pixel_rays, recover_cameras, unproject
from fourdnex.geometry.rotations import rotation_angle_from_trace

SEEDS = (3, 8, 21)
NOISE = 0.01
LARGE, SMALL = (49, 480, 720), (25, 120, 180)


def main() -> None:
    """Measure recovery at full size, then compare it with the reference method at a smaller size."""
    parser = argument_parser(__doc__)
    parser.add_argument("--skip-reference", action="store_true", help="skip the reference method, which takes minutes")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for seed in SEEDS:
        truth = render_world(seed, num_frames=LARGE[0], height=LARGE[1], width=LARGE[2])
        points = noisy(truth.pointmaps, truth.depth, seed)
        rows.append(
            (
                f"noise, world {seed}",
                *measure(points, truth, repeats=3),
                true_camera_rmse(points, truth),
                memory(points),
            )
        )
        del points
        rows.append((f"outliers, world {seed}", *measure(with_outliers(truth, seed), truth, repeats=1), None, None))
    print_table(
        "recover_cameras, 49x480x720 (targets: 0.8 s, 1 GiB, RMSE within 5 % of that of the true cameras, 0.3 degrees, "
        "focal 1 %; with 20 % outliers, 30 % missing and half of the image moving: 0.5 degrees)",
        ("points", "seconds", "RMSE", "rotation, degrees", "focal, %", "RMSE of true cameras", "memory, GiB"),
        rows,
    )
    if options.skip_reference:
        return
    truth = render_world(SEEDS[0], num_frames=SMALL[0], height=SMALL[1], width=SMALL[2])
    points = noisy(truth.pointmaps, truth.depth, SEEDS[0])
    recovered = measure(points, truth, repeats=5)
    rows = []
    for name, rank_1 in (
        ("reference implementation", True),
        ("reference implementation, identity initialization", False),
    ):
        started = time.perf_counter()
        poses, focal, rmse = optimize_cameras(points, rank_1=rank_1)
        seconds = time.perf_counter() - started
        error = rotation_error(poses, truth.camera_to_world)
        rows.append((name, seconds, rmse, error, 100 * abs(focal / truth.intrinsics[0, 0] - 1)))
    rows.append(("recover_cameras", *recovered))
    rows += [(f"{name} / recover_cameras", *np.divide(values, recovered).tolist()) for name, *values in rows[:2]]
    print_table(
        "25x120x180 (targets: 150 times faster than the reference implementation, a tenth of its RMSE)",
        ("method", "seconds", "RMSE", "rotation, degrees", "focal, %"),
        rows,
        notes=[f"RMSE of the true cameras: {true_camera_rmse(points, truth):.4g}."],
    )


def noisy(pointmaps: np.ndarray, depth: np.ndarray, seed: int) -> np.ndarray:
    """Point maps with Gaussian noise in proportion to depth."""
    noise = np.random.default_rng(seed).standard_normal(pointmaps.shape, dtype=np.float32)
    return pointmaps + NOISE * depth[..., None] * noise


def with_outliers(truth: Clip, seed: int) -> np.ndarray:
    """Noisy point maps with a moving right half, outliers and missing pixels.

    The right half approaches the camera by a quarter along its rays; 20 % of the pixels are uniform in the scene's box,
    30 % are NaN.
    """
    rng = np.random.default_rng(seed + 1)
    depth = truth.depth.copy()
    depth[:, :, truth.width // 2 :] *= np.linspace(1, 0.75, truth.num_frames, dtype=np.float32)[:, None, None]
    points = noisy(unproject(depth, truth.intrinsics, truth.camera_to_world), depth, seed)
    low, high = np.percentile(points[:, ::8, ::8].reshape(-1, 3), [1, 99], axis=0).astype(np.float32)
    outlier = rng.random(depth.shape, dtype=np.float32) < 0.2
    points[outlier] = low + (high - low) * rng.random((int(outlier.sum()), 3), dtype=np.float32)
    points[rng.random(depth.shape, dtype=np.float32) < 0.3] = np.nan
    return points


def measure(points: np.ndarray, truth: Clip, *, repeats: int) -> tuple[float, float, float, float]:
    """Median seconds, RMSE, rotation error in degrees and focal error in % of `recover_cameras`."""
    timing = time_work(lambda: recover_cameras(points), repeats=repeats)
    recovery = recover_cameras(points)
    focal = 100 * abs(recovery.intrinsics[0, 0] / truth.intrinsics[0, 0] - 1)
    return timing.wall, recovery.rmse, rotation_error(recovery.camera_to_world, truth.camera_to_world), focal


def rotation_error(recovered: np.ndarray, truth: np.ndarray) -> float:
    """Largest angle between recovered and true camera rotations, in degrees."""
    relative = np.swapaxes(recovered[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    return float(np.degrees(rotation_angle_from_trace(relative)).max())


def true_camera_rmse(points: np.ndarray, truth: Clip) -> float:
    """RMSE with the true cameras and the best depth per pixel: a lower bound for recovery, up to overfitting."""
    rays = pixel_rays(truth.height, truth.width, truth.intrinsics).astype(np.float32)
    squares = []
    for frame, pose in zip(points, truth.camera_to_world, strict=True):
        local = (frame - pose[:3, 3]) @ pose[:3, :3]
        best = (local * rays).sum(-1, keepdims=True) / (rays * rays).sum(-1, keepdims=True)
        squares.append(np.square(local - best * rays).mean())
    return float(np.sqrt(np.mean(squares)))


def memory(points: np.ndarray) -> float:
    """Largest growth of the process during recovery, in GiB."""
    process, peak, done = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    recover_cameras(points)
    done.set()
    watcher.join()
    return peak / 2**30


def optimize_cameras(
    points: np.ndarray, *, rank_1: bool = True, steps: int = 1500, rate: float = 5e-3
) -> tuple[np.ndarray, float, float]:
    """The reference method: poses [T, 4, 4], focal length and RMSE after Adam on all pixels."""
    num_frames, height, width = points.shape[:3]
    target = torch.from_numpy(points).reshape(num_frames, -1, 3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = x.reshape(-1).float(), y.reshape(-1).float()
    columns = torch.tensor([[1.0, 0, 0], [1.0, 0, 0] if rank_1 else [0, 1.0, 0]])
    rotations = columns.repeat(num_frames, 1, 1).requires_grad_()
    translations = torch.zeros(num_frames, 3, requires_grad=True)
    intrinsics = torch.tensor([1.2 * width, 1.2 * height, width / 2, height / 2], requires_grad=True)
    depth = target.norm(dim=-1).requires_grad_()
    optimizer = torch.optim.Adam([rotations, translations, intrinsics, depth], lr=rate)

    def unprojected() -> tuple[torch.Tensor, torch.Tensor]:
        first = torch.nn.functional.normalize(rotations[:, 0], dim=-1)
        second = rotations[:, 1] - (rotations[:, 1] * first).sum(-1, keepdim=True) * first
        second = torch.nn.functional.normalize(second, dim=-1)
        axes = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        rays = torch.stack(
            [(x - intrinsics[2]) / intrinsics[0], (y - intrinsics[3]) / intrinsics[1], torch.ones_like(x)], dim=-1
        )
        local = rays * depth.clamp(min=1e-4)[..., None]
        return local @ axes.transpose(1, 2) + translations[:, None], axes

    for _ in range(steps):
        optimizer.zero_grad()
        loss = (unprojected()[0] - target).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        fitted, axes = unprojected()
        poses = np.tile(np.eye(4), (num_frames, 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = axes.numpy(), translations.numpy()
        return poses, float(intrinsics[0]), float((fitted - target).square().mean().sqrt())


if __name__ == "__main__":
    main()
