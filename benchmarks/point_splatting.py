"""Novel view rendering against a naive splat, 480x720 from 345,600 points: `python -m benchmarks.point_splatting`

The naive splat lists every pixel of every point, sorts them from far to near, and writes them in that order. Where
Open3D is installed, its headless point projection is a second baseline.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import time_in_turns
from benchmarks.reporting import argument_parser, print_table
from fourdnex.cores import available_cores
from fourdnex.rendering import Surface, swing
from fourdnex.rendering.splat import MAX_FOOTPRINT, paint, project_columns, splat, view_matrix
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Scene4D

HEIGHT, WIDTH = 480, 720


def main() -> None:
    """Time all methods in turns and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed views per method (default: 9)")
    parser.add_argument(
        "--threads", type=int, default=min(2, available_cores()), help="threads of PyTorch (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scene = bumpy_scene()
    surface = Surface(scene, 0)
    cameras = swing(scene, 12)[1:6]
    intrinsics = scene.intrinsics

    methods: dict[str, Callable[[np.ndarray], Any]] = {
        "naive PyTorch splat": lambda pose: naive_splat(surface, intrinsics, pose),
        "fourdnex, frame prepared once": lambda pose: surface.render(pose, intrinsics),
        "fourdnex, frame prepared for every view": lambda pose: Surface(scene, 0).render(pose, intrinsics),
        "fourdnex, one pixel per point": lambda pose: single_pixel_splat(surface, intrinsics, pose),
    }
    if (projection := open3d_projection(scene)) is not None:
        methods["Open3D, project_to_rgbd_image, one pixel per point"] = projection

    def run(method: Callable[[np.ndarray], Any]) -> Callable[[int], Any]:
        return lambda number: method(cameras[number % len(cameras)])

    timings = time_in_turns({name: run(method) for name, method in methods.items()}, repeats=options.repeats)
    naive = timings["naive PyTorch splat"]
    rows = [
        (name, 1 / timing.wall, 1000 * timing.cpu, naive.wall / timing.wall, naive.cpu / timing.cpu)
        for name, timing in timings.items()
    ]
    columns = ["method", "frames per second", "CPU ms per frame", "speedup, wall time", "speedup, CPU time"]
    expected, image = naive_splat(surface, intrinsics, cameras[0]), surface.render(cameras[0], intrinsics)[0]
    equal = np.mean((expected == image).all(-1).numpy())
    print_table(
        f"Views of {HEIGHT}x{WIDTH} from {HEIGHT * WIDTH:,} points, {options.threads} threads, medians",
        columns,
        rows,
        notes=[
            f"fourdnex and the naive splat draw points of the same sizes; {equal:.1%} of the pixels are equal. The "
            "others are covered by several points of one surface, of which fourdnex shows the one with the nearest "
            "center. On a machine under load use --threads 1, and compare CPU times.",
        ],
    )


def bumpy_scene() -> Scene4D:
    """One frame of waves with a near disc and random colors; every pixel has a point."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    depth = 4 + 0.8 * np.sin(x / 60) + 0.5 * np.cos(y / 40) - 1.5 * (np.hypot(x - 300, y - 240) < 90)
    return Scene4D(
        rgb=np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8),
        depth=depth[None],
        intrinsics=np.array([[600, 0, 359.5], [0, 600, 239.5], [0, 0, 1]]),
        camera_to_world=np.eye(4)[None],
    )


def naive_splat(surface: Surface, intrinsics: np.ndarray, pose: np.ndarray) -> torch.Tensor:
    """The baseline: all pixels of all points, written from far to near."""
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


def single_pixel_splat(surface: Surface, intrinsics: np.ndarray, pose: np.ndarray) -> torch.Tensor:
    """As Open3D's projection: every point covers one pixel, with holes in between."""
    matrix = view_matrix(intrinsics, pose)
    x, y, z = (values.flatten() for values in project_columns(surface._x, surface._y, surface._z, matrix))
    owner, _ = splat(x, y, z, torch.ones_like(x), torch.ones_like(x), height=HEIGHT, width=WIDTH)
    return paint(owner, surface.rgb, (255, 255, 255))


def open3d_projection(scene: Scene4D) -> Callable[[np.ndarray], Any] | None:
    """Open3D's headless point projection with a depth buffer; None if Open3D is not installed."""
    try:
        import open3d as o3d
    except ImportError:
        return None
    xyz, rgb = scene.points(0)
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(xyz))
    cloud.point.colors = o3d.core.Tensor(rgb.astype(np.float32) / 255)
    intrinsics = o3d.core.Tensor(scene.intrinsics.astype(np.float64))

    def render(pose: np.ndarray) -> Any:
        extrinsics = o3d.core.Tensor(np.linalg.inv(pose))
        return cloud.project_to_rgbd_image(WIDTH, HEIGHT, intrinsics, extrinsics, depth_scale=1.0, depth_max=100.0)

    return render


if __name__ == "__main__":
    main()
