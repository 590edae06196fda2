"""Camera recovery against its bars and against the public way: `python -m benchmarks.camera_recovery [--skip-public]`

The public way is written here from its description: the rotations as two columns, the translations, fx, fy, cx, cy and
one depth a pixel are parameters of Adam, 1,500 steps of learning rate 5e-3 on all pixels, mean squared distance. Its
rotations start with the first column twice, which makes them matrices of rank 1, its focal lengths at 1.2 images, its
depths at the points' distances from the origin. A second row gives it what it lacks: rotations from the identity.
Noise is Gaussian, 1 % of a point's depth, the same in x, y and z.
"""

import argparse
import statistics
import threading
import time

import numpy as np
import psutil
import torch

from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world
from fourdnex.geometry import pixel_rays, recover_cameras, unproject

SEEDS = (3, 8, 21)
NOISE = 0.01
LARGE, SMALL = (49, 480, 720), (25, 120, 180)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-public", action="store_true", help="leave out the minutes of Adam")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for seed in SEEDS:
        truth = render_world(seed, num_frames=LARGE[0], height=LARGE[1], width=LARGE[2])
        points = noisy(truth.pointmaps, truth.depth, seed)
        rows.append((f"noise, world {seed}", *measure(points, truth, repeats=3), floor(points, truth), memory(points)))
        del points
        rows.append((f"outliers, world {seed}", *measure(spoiled(truth, seed), truth, repeats=1), None, None))
    print_table(
        "recover_cameras, 49x480x720 (bars: 0.8 s, 1 GiB, RMSE 5 % above the floor, 0.3 degrees, focal 1 %; "
        "with 20 % outliers, 30 % missing, half moving: 0.5 degrees)",
        ("points", "seconds", "RMSE", "rotation, degrees", "focal, %", "RMSE of true cameras", "memory, GiB"),
        rows,
    )
    if options.skip_public:
        return
    truth = render_world(SEEDS[0], num_frames=SMALL[0], height=SMALL[1], width=SMALL[2])
    points = noisy(truth.pointmaps, truth.depth, SEEDS[0])
    ours = measure(points, truth, repeats=5)
    rows = []
    for name, rank_1 in (("public way", True), ("the same from the identity", False)):
        started = time.perf_counter()
        poses, focal, rmse = public_way(points, rank_1=rank_1)
        seconds = time.perf_counter() - started
        error = rotation_error(poses, truth.camera_to_world)
        rows.append((name, seconds, rmse, error, 100 * abs(focal / truth.intrinsics[0, 0] - 1)))
    rows.append(("recover_cameras", *ours))
    rows += [(f"{name} / recover_cameras", *np.divide(theirs, ours).tolist()) for name, *theirs in rows[:2]]
    print_table(
        "25x120x180 (bars: 150 times faster than the public way, a tenth of its RMSE)",
        ("", "seconds", "RMSE", "rotation, degrees", "focal, %"),
        rows,
        notes=[f"RMSE of the true cameras: {floor(points, truth):.4g}."],
    )


def noisy(pointmaps: np.ndarray, depth: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(pointmaps.shape, dtype=np.float32)
    return pointmaps + NOISE * depth[..., None] * noise


def spoiled(truth: Clip, seed: int) -> np.ndarray:
    """Noise; half of each image comes nearer by a quarter along its rays; of the pixels 20 % are anywhere in the
    scene's box and 30 % missing."""
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
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = recover_cameras(points)
        seconds.append(time.perf_counter() - started)
    focal = 100 * abs(found.intrinsics[0, 0] / truth.intrinsics[0, 0] - 1)
    return statistics.median(seconds), found.rmse, rotation_error(found.camera_to_world, truth.camera_to_world), focal


def rotation_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Greatest angle between found and true camera axes, degrees."""
    relative = np.swapaxes(found[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    return float(np.degrees(np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1))).max())


def floor(points: np.ndarray, truth: Clip) -> float:
    """RMSE that is left with the true cameras and the best depths: what no recovery can be far below."""
    rays = pixel_rays(truth.height, truth.width, truth.intrinsics).astype(np.float32)
    squares = []
    for frame, pose in zip(points, truth.camera_to_world, strict=True):
        local = (frame - pose[:3, 3]) @ pose[:3, :3]
        best = (local * rays).sum(-1, keepdims=True) / (rays * rays).sum(-1, keepdims=True)
        squares.append(np.square(local - best * rays).mean())
    return float(np.sqrt(np.mean(squares)))


def memory(points: np.ndarray) -> float:
    """Greatest growth of the process while it recovers, GiB."""
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


def public_way(
    points: np.ndarray, *, rank_1: bool = True, steps: int = 1500, rate: float = 5e-3
) -> tuple[np.ndarray, float, float]:
    """Poses [T, 4, 4], focal length and RMSE after Adam on all pixels."""
    num_frames, height, width = points.shape[:3]
    target = torch.from_numpy(points).reshape(num_frames, -1, 3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = x.reshape(-1).float(), y.reshape(-1).float()
    columns = torch.tensor([[1.0, 0, 0], [1.0, 0, 0] if rank_1 else [0, 1.0, 0]])
    rotations = columns.repeat(num_frames, 1, 1).requires_grad_()
    shift = torch.zeros(num_frames, 3, requires_grad=True)
    lens = torch.tensor([1.2 * width, 1.2 * height, width / 2, height / 2], requires_grad=True)
    depth = target.norm(dim=-1).requires_grad_()
    optimizer = torch.optim.Adam([rotations, shift, lens, depth], lr=rate)

    def unprojected() -> tuple[torch.Tensor, torch.Tensor]:
        first = torch.nn.functional.normalize(rotations[:, 0], dim=-1)
        second = rotations[:, 1] - (rotations[:, 1] * first).sum(-1, keepdim=True) * first
        second = torch.nn.functional.normalize(second, dim=-1)
        axes = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        rays = torch.stack([(x - lens[2]) / lens[0], (y - lens[3]) / lens[1], torch.ones_like(x)], dim=-1)
        local = rays * depth.clamp(min=1e-4)[..., None]
        return local @ axes.transpose(1, 2) + shift[:, None], axes

    for _ in range(steps):
        optimizer.zero_grad()
        loss = (unprojected()[0] - target).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found, axes = unprojected()
        poses = np.tile(np.eye(4), (num_frames, 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = axes.numpy(), shift.numpy()
        return poses, float(lens[0]), float((found - target).square().mean().sqrt())


if __name__ == "__main__":
    main()
