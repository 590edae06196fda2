"""Camera recovery against its bars and against the public way: `python -m benchmarks.recovery [--skip-public]`

The public way is written here from its description: rotations, translations, one focal length and one depth a pixel
are parameters of Adam, 1,500 steps of learning rate 1e-2 on all pixels, from the identity; no robust loss.
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
    started = time.perf_counter()
    poses, focal, rmse = public_way(points)
    seconds = time.perf_counter() - started
    theirs = (
        seconds,
        rmse,
        rotation_error(poses, truth.camera_to_world),
        100 * abs(focal / truth.intrinsics[0, 0] - 1),
    )
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    rows = [("public way", *theirs), ("recover_cameras", *ours), ("ratio", *ratios)]
    print_table(
        "25x120x180 (bars: 150 times faster, a tenth of the RMSE)",
        ("", "seconds", "RMSE", "rotation, degrees", "focal, %"),
        rows,
    )


def noisy(pointmaps: np.ndarray, depth: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(pointmaps.shape, dtype=np.float32)
    return pointmaps + NOISE * depth[..., None] * noise


def spoiled(truth: Clip, seed: int) -> np.ndarray:
    """Noise; half of each picture comes nearer by a quarter along its rays; of the pixels 20 % are anywhere in the
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


def public_way(points: np.ndarray, *, steps: int = 1500, rate: float = 0.01) -> tuple[np.ndarray, float, float]:
    """Poses [T, 4, 4], focal length and RMSE after Adam on all pixels, from rotations, depths and a focal length."""
    target = torch.from_numpy(points)
    num_frames, height, width = points.shape[:3]
    turn = torch.zeros(num_frames, 3, requires_grad=True)
    shift = torch.zeros(num_frames, 3, requires_grad=True)
    log_focal = torch.zeros((), requires_grad=True)  # of the focal length in widths
    depth = target[..., 2].clone().requires_grad_()
    grid = torch.from_numpy(
        pixel_rays(height, width, np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]]))
    ).float()
    optimiser = torch.optim.Adam([turn, shift, log_focal, depth], lr=rate)

    def unprojected() -> tuple[torch.Tensor, torch.Tensor]:
        zero = torch.zeros(num_frames)
        x, y, z = turn.unbind(-1)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
        rotation = torch.linalg.matrix_exp(skew)
        rays = torch.cat([grid[..., :2] * torch.exp(-log_focal), grid[..., 2:]], dim=-1)
        local = rays * depth[..., None]
        return torch.einsum("tij,thwj->thwi", rotation, local) + shift[:, None, None], rotation

    for _ in range(steps):
        optimiser.zero_grad()
        loss = (unprojected()[0] - target).square().mean()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found, rotation = unprojected()
        poses = np.tile(np.eye(4), (num_frames, 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = rotation.numpy(), shift.numpy()
        return poses, float(torch.exp(log_focal)) * width, float((found - target).square().mean().sqrt())


if __name__ == "__main__":
    main()
