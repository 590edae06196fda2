"""World renderer against a plain ray caster: `python -m benchmarks.world_rendering`

The baseline is a direct numpy implementation: one array of rays, every object intersected with every ray, and a shadow
ray from every point to the light, through every object. It shares the scene and the texture with
`fourdnex.datasets.worlds` and must give the same depth.
"""

import statistics
import time

import numpy as np

from benchmarks.reporting import argument_parser, print_table
from fourdnex.datasets.worlds import HELD_OUT_SEEDS
from fourdnex.datasets.worlds.raycast import cast, texture_color
from fourdnex.datasets.worlds.scenes import World, WorldObject, sample_world

FAR = 1e9
SKY, GROUND, BACK, SIDE, CEILING, FIRST_THING = range(6)


def main() -> None:
    """Time both renderers, check that they agree, and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--worlds", type=int, default=12, help="number of worlds (default: 12)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs per world; the fastest counts (default: 3)")
    options = parser.parse_args()
    size = {"num_frames": 17, "height": 64, "width": 96}
    fast_ms, plain_ms, depth_error, color_error = [], [], [], []
    for seed in HELD_OUT_SEEDS[: options.worlds]:
        world = sample_world(seed)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.repeats):
            started = time.perf_counter()
            frames = cast(world, **size)
            middle = time.perf_counter()
            rgb, depth = cast_plainly(world, **size)
            times[0].append(middle - started)
            times[1].append(time.perf_counter() - middle)
        fast_ms.append(1000 * min(times[0]))
        plain_ms.append(1000 * min(times[1]))
        relative = np.abs(frames.depth / depth - 1)
        # Rays that graze an edge may hit either side of it, depending on rounding.
        depth_error.append(float(np.quantile(relative, 0.9999)))
        color_error.append(float(np.abs(frames.rgb.astype(int) - rgb.astype(int)).mean()))
    if max(depth_error) > 1e-3 or max(color_error) > 0.5:
        raise SystemExit(f"the renderers disagree: depth by {max(depth_error):.2g}, color by {max(color_error):.2g}")
    rows = [
        ("plain ray caster", statistics.median(plain_ms), min(plain_ms), max(plain_ms), 1.0),
        (
            "fourdnex.datasets.worlds",
            statistics.median(fast_ms),
            min(fast_ms),
            max(fast_ms),
            _median_ratio(fast_ms, plain_ms),
        ),
    ]
    print_table(
        f"Worlds of 17 frames, 64 x 96: milliseconds per clip, {options.worlds} worlds",
        ("renderer", "median", "fastest", "slowest", "median ratio to plain"),
        rows,
        notes=[
            f"Largest difference: depth {max(depth_error):.1e} (relative, 99.99th percentile), "
            f"color {max(color_error):.3f} of 255 (mean per clip)."
        ],
        packages=("numpy",),
    )


def _median_ratio(times: list[float], baseline: list[float]) -> float:
    """Median over worlds of the ratio of two times."""
    return statistics.median(a / b for a, b in zip(times, baseline, strict=True))


def cast_plainly(world: World, *, num_frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The baseline: RGB [T, H, W, 3] uint8 and depth [T, H, W] float32."""
    frame_times = np.linspace(0, 1, num_frames)
    pose = world.camera.pose(frame_times).astype(np.float32)
    focal = world.camera.focal * width
    u, v = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    rays = np.stack([u / focal, v / focal, np.ones_like(u)], axis=-1).astype(np.float32)  # [H, W, 3]
    direction = np.einsum("tij,hwj->thwi", pose[:, :3, :3], rays).reshape(-1, 3)
    origin = np.repeat(pose[:, :3, 3], height * width, axis=0)
    frame = np.repeat(np.arange(num_frames), height * width)

    depth, surface = _surroundings(world, origin, direction)
    for index, item in enumerate(world.objects):
        hit = _intersect(item, frame_times, frame, origin, direction)
        nearer = (hit > 0.05) & (hit < depth)
        depth[nearer], surface[nearer] = hit[nearer], FIRST_THING + index
    point = origin + depth[:, None] * direction
    color, lambert = _surfaces(world, frame_times, frame, point, surface, depth / focal)
    light = world.light.astype(np.float32)
    dark = np.zeros(len(point), dtype=bool)
    for item in world.objects:
        hit = _intersect(item, frame_times, frame, point + 2e-3 * light, np.broadcast_to(light, point.shape))
        dark |= (hit > 1e-2) & (hit < FAR)
    lit = np.maximum(lambert, 0) * np.where(dark & (lambert > 0.02), 0.25, 1.0)
    shade = world.ambient + (1 - world.ambient) * lit + 0.10 * np.minimum(lambert, 0)
    up = np.clip(-point[:, 1] / world.sky_radius * 1.8, 0, 1)[:, None]
    zenith, horizon = (np.array(tone) for tone in world.sky)
    color = np.where((surface == SKY)[:, None], horizon + up * (zenith - horizon), color * shade[:, None])
    rgb = (np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8)
    return rgb.reshape(num_frames, height, width, 3), depth.reshape(num_frames, height, width)


def _surroundings(world: World, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [N] and kind of surface [N] of ground, walls, ceiling and sky."""
    surface = np.zeros(len(origin), dtype=int)

    def keep(distance: np.ndarray, kind: int, where: np.ndarray) -> None:
        nearer = where & (distance > 0) & (distance < depth)
        depth[nearer], surface[nearer] = distance[nearer], kind

    def plane(axis: int, offset: float) -> np.ndarray:
        return (offset - origin[:, axis]) / direction[:, axis]

    everywhere = np.ones(len(origin), dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        if world.indoor:
            depth = np.full(len(origin), FAR, dtype=np.float32)
            for wall in world.room_x:
                keep(plane(0, wall), SIDE, everywhere)
            keep(plane(1, -world.room_height), CEILING, direction[:, 1] <= 0)
        else:
            depth = _sphere(origin, direction, world.sky_radius, inside=True).astype(np.float32)
        keep(plane(1, 0.0), GROUND, direction[:, 1] > 1e-6)
        if world.wall_z is not None:
            wall = plane(2, world.wall_z)
            below_top = origin[:, 1] + wall * direction[:, 1] > -world.room_height
            keep(wall, BACK, (direction[:, 2] > 1e-6) & (everywhere if world.indoor else below_top))
    return depth, surface


def _sphere(o: np.ndarray, d: np.ndarray, radius: float, *, inside: bool = False) -> np.ndarray:
    """Distance [N] along rays to a sphere around the origin, `FAR` where they miss it."""
    a, b = (d * d).sum(axis=1), (o * d).sum(axis=1)
    root = b * b - a * ((o * o).sum(axis=1) - radius**2)
    side = np.sqrt(np.maximum(root, 0))
    return np.where(root > 0, (-b + side if inside else -b - side) / a, FAR)


def _to_object_axes(item: WorldObject, frame_times: np.ndarray, frame: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Vectors [N, 3] from the building's axes to the axes of an object."""
    yaw = item.pose(frame_times)[1].astype(np.float32)[frame]
    cos, sin = np.cos(yaw), np.sin(yaw)
    x, y, z = vector.T
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], axis=1)


def _intersect(
    item: WorldObject, frame_times: np.ndarray, frame: np.ndarray, origin: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """Distance [N] along rays to an object, `FAR` where they miss it."""
    center = item.pose(frame_times)[0].astype(np.float32)[frame]
    o = _to_object_axes(item, frame_times, frame, origin - center)
    d = _to_object_axes(item, frame_times, frame, direction)
    half = item.half.astype(np.float32)
    if item.shape == "sphere":
        return _sphere(o, d, float(half[0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (-half - o) / d, (half - o) / d
        low, high = np.minimum(one, two), np.maximum(one, two)
        if item.shape == "box":
            enter, leave = low.max(axis=1), high.min(axis=1)
            return np.where(enter < leave, enter, FAR)
        a = d[:, 0] ** 2 + d[:, 2] ** 2
        b = o[:, 0] * d[:, 0] + o[:, 2] * d[:, 2]
        root = b * b - a * (o[:, 0] ** 2 + o[:, 2] ** 2 - half[0] ** 2)
        side = np.sqrt(np.maximum(root, 0))
        enter, leave = np.maximum((-b - side) / a, low[:, 1]), np.minimum((-b + side) / a, high[:, 1])
        return np.where((root > 0) & (enter < leave), enter, FAR)


def _surfaces(
    world: World,
    frame_times: np.ndarray,
    frame: np.ndarray,
    point: np.ndarray,
    surface: np.ndarray,
    footprint: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Texture color [N, 3] and cosine [N] between the surface normal and the light."""
    light = world.light.astype(np.float32)
    color, lambert = np.zeros_like(point), np.zeros(len(point), dtype=np.float32)
    for kind in (GROUND, BACK, SIDE, CEILING):
        at = surface == kind
        if not at.any():
            continue
        texture = world.ground if kind == GROUND else world.walls
        color[at] = texture_color(texture, *point[at].T, footprint[at]) * (0.85 if kind == CEILING else 1.0)
        cosine = {GROUND: -light[1], BACK: -light[2], CEILING: light[1]}.get(kind)
        lambert[at] = np.where(point[at, 0] < 0, light[0], -light[0]) if cosine is None else cosine
    for index, item in enumerate(world.objects):
        at = surface == FIRST_THING + index
        if not at.any():
            continue
        center = item.pose(frame_times)[0].astype(np.float32)[frame[at]]
        local = _to_object_axes(item, frame_times, frame[at], point[at] - center)
        to_light = _to_object_axes(item, frame_times, frame[at], np.broadcast_to(light, local.shape))
        color[at] = texture_color(item.texture, *local.T, footprint[at])
        lambert[at] = (_normal(item, local) * to_light).sum(axis=1)
    return color, lambert


def _normal(item: WorldObject, local: np.ndarray) -> np.ndarray:
    """Surface normals [N, 3] in the axes of an object."""
    half = item.half.astype(np.float32)
    if item.shape == "sphere":
        return local / half[0]
    if item.shape == "box":
        face = np.abs(local / half).argmax(axis=1)
        return np.eye(3, dtype=np.float32)[face] * np.sign(local)
    cap = np.abs(local[:, 1]) > half[1] * 0.999
    upright = np.stack([0 * local[:, 0], np.sign(local[:, 1]), 0 * local[:, 0]], axis=1)
    round_side = np.stack([local[:, 0], 0 * local[:, 0], local[:, 2]], axis=1) / half[0]
    return np.where(cap[:, None], upright, round_side)


if __name__ == "__main__":
    main()
