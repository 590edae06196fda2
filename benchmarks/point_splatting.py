"""Frames a second of new views, 480x720 from 345,600 points, against naive splats: python -m benchmarks.point_splatting"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import print_table
from fourdnex.cores import available_cores
from fourdnex.rendering import Surface, swing
from fourdnex.rendering.splat import MAX_FOOTPRINT, paint, project_columns, splat, view_matrix
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Scene4D

HEIGHT, WIDTH = 480, 720


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="views of each kind; the median counts")
    parser.add_argument("--threads", type=int, default=min(2, available_cores()), help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scene = bumpy_scene()
    surface = Surface(scene, 0)
    cameras = swing(scene, 12)[1:6]
    lens = scene.intrinsics

    ways: dict[str, Callable[[np.ndarray], Any]] = {
        "naive PyTorch splat: every pixel of every point, argsort, index_put": lambda pose: naive(surface, lens, pose),
        "ours, a view of a prepared frame": lambda pose: surface.look(pose, lens),
        "ours, a new frame for every view": lambda pose: Surface(scene, 0).look(pose, lens),
        "ours, one pixel a point, no sizes": lambda pose: dots(surface, lens, pose),
    }
    if (project := open3d_projection(scene)) is not None:
        ways["Open3D, project_to_rgbd_image: one pixel a point, no sizes"] = project
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):  # in turns, so that all meet the same machine; the first is a rehearsal
        for name, render in ways.items():
            began, used = time.perf_counter(), time.process_time()
            render(cameras[repeat % len(cameras)])
            if repeat:
                wall[name].append(time.perf_counter() - began)
                work[name].append(time.process_time() - used)
    base = next(iter(ways))
    rows = [
        (
            name,
            1 / statistics.median(wall[name]),
            1000 * statistics.median(work[name]),
            statistics.median(wall[base]) / statistics.median(wall[name]),
            statistics.median(work[base]) / statistics.median(work[name]),
        )
        for name in ways
    ]
    columns = ["way", "frames a second", "CPU ms a frame", "times the naive one, wall", "times, CPU"]
    same = np.mean((naive(surface, lens, cameras[0]) == surface.look(cameras[0], lens)[0]).all(-1).numpy())
    print_table(
        f"Views of {HEIGHT}x{WIDTH} from {HEIGHT * WIDTH:,} points, {arguments.threads} threads, medians",
        columns,
        rows,
        notes=[
            f"Ours and the naive one draw the same sizes; {same:.1%} of the pixels are equal. The rest are pixels that "
            "several points of one surface cover: ours shows the one whose middle is nearest. Where other processes "
            "want the cores, threads wait for each other: --threads 1 then tells more, CPU time more than wall time.",
        ],
    )


def bumpy_scene() -> Scene4D:
    """One frame of waves with a near disc, in noise colors: every pixel has a point, none are alike."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    depth = 4 + 0.8 * np.sin(x / 60) + 0.5 * np.cos(y / 40) - 1.5 * (np.hypot(x - 300, y - 240) < 90)
    return Scene4D(
        rgb=np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8),
        depth=depth[None],
        intrinsics=np.array([[600, 0, 359.5], [0, 600, 239.5], [0, 0, 1]]),
        camera_to_world=np.eye(4)[None],
    )


def naive(surface: Surface, intrinsics: np.ndarray, pose: np.ndarray) -> torch.Tensor:
    """The plain way: list every pixel of every point, sort from far to near, and let the last writer win."""
    matrix = view_matrix(scaled_intrinsics(intrinsics, 1), pose)
    x, y, z = (values.flatten() for values in project_columns(surface._x, surface._y, surface._z, matrix))
    wide = (surface.extent(x.view(HEIGHT, WIDTH)).flatten() - 0.003).ceil().clamp(1, MAX_FOOTPRINT)
    high = (surface.extent(y.view(HEIGHT, WIDTH)).flatten() - 0.003).ceil().clamp(1, MAX_FOOTPRINT)
    left, top = (x - wide / 2 + 1).floor().long(), (y - high / 2 + 1).floor().long()
    count = (wide * high).long()
    point = torch.repeat_interleave(count)
    step = torch.arange(len(point)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    column = left[point] + step % wide.long()[point]
    row = top[point] + step // wide.long()[point]
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT) & (z[point] > 0)
    point, column, row = point[inside], column[inside], row[inside]
    order = torch.argsort(z[point], descending=True)
    image = torch.full((HEIGHT, WIDTH, 3), 255, dtype=torch.uint8)
    image[row[order], column[order]] = surface.rgb[point[order]]
    return image


def dots(surface: Surface, intrinsics: np.ndarray, pose: np.ndarray) -> torch.Tensor:
    """What Open3D's projection does: every point is one pixel, and between them are holes."""
    matrix = view_matrix(intrinsics, pose)
    x, y, z = (values.flatten() for values in project_columns(surface._x, surface._y, surface._z, matrix))
    owner, _ = splat(x, y, z, torch.ones_like(x), torch.ones_like(x), height=HEIGHT, width=WIDTH)
    return paint(owner, surface.rgb, (255, 255, 255))


def open3d_projection(scene: Scene4D) -> Callable[[np.ndarray], Any] | None:
    """Open3D's headless point projection with a depth buffer, where Open3D is installed."""
    try:
        import open3d as o3d
    except ImportError:
        return None
    xyz, rgb = scene.points(0)
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(xyz))
    cloud.point.colors = o3d.core.Tensor(rgb.astype(np.float32) / 255)
    lens = o3d.core.Tensor(scene.intrinsics.astype(np.float64))

    def render(pose: np.ndarray) -> Any:
        extrinsics = o3d.core.Tensor(np.linalg.inv(pose))
        return cloud.project_to_rgbd_image(WIDTH, HEIGHT, lens, extrinsics, depth_scale=1.0, depth_max=100.0)

    return render


if __name__ == "__main__":
    main()
