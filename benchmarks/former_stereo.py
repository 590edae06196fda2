"""The former dense depth and dynamic mask, as the baseline of benchmarks.

For every frame, planes parallel to its image are swept through the depth range of the scene. Other frames are warped
onto each plane and compared by normalized cross-correlation, and semi-global matching selects the plane of each pixel
(Collins 1996; Hirschmueller 2008). The confidence is the agreement of the depth maps of different frames.
"""

from __future__ import annotations

import numpy as np

from fourdnex.geometry.cameras import invert_pose, project, unproject
from fourdnex.optical_flow import optical_flow

NUM_PLANES = 48
"""Number of planes, at equal distances in inverse depth."""
NUM_SOURCES = 4
"""Number of frames that each frame is compared with."""
TARGET_ANGLE = 5.0
"""Preferred angle in degrees between two views at the median depth: large enough for depth, small enough to match."""
WINDOW = 7
"""Side of the correlation window in pixels."""
AGREEMENT_SCALE = 0.03
"""Relative difference of depth at which the agreement of two views is 1/e."""


def sweep(
    gray: np.ndarray,  # [T, H, W] float32, 0..1
    intrinsics: np.ndarray,  # [3, 3]
    camera_to_world: np.ndarray,  # [T, 4, 4]
    depth_range: np.ndarray,  # [T, 2] nearest and farthest depth of each frame
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate depth and confidence of every frame.

    Returns:
        Depth [T, H, W] float32 (z in the camera's frame, holes filled) and confidence [T, H, W] float32 in [0, 1]
        (0 where filled).
    """
    world_to_camera = invert_pose(camera_to_world.astype(np.float64))
    sources = choose_sources(camera_to_world, depth_range)
    depth = np.empty(gray.shape, np.float32)
    correlation = np.empty(gray.shape, np.float32)
    for frame in range(len(gray)):
        inverse = np.linspace(1 / depth_range[frame, 1], 1 / depth_range[frame, 0], NUM_PLANES)
        cost = np.empty((NUM_PLANES, *gray.shape[1:]), np.float32)
        relative = [world_to_camera[source] @ camera_to_world[frame] for source in sources[frame]]
        _plane_costs(cost, gray[frame], gray[sources[frame]], intrinsics, relative, inverse)
        depth[frame], correlation[frame] = _best_planes(cost, inverse)
    # Without texture, the correlation is 0 and depth is interpolated, so agreement between views is meaningless.
    confidence = agreement(depth, intrinsics, camera_to_world, sources) * np.clip((correlation - 0.1) / 0.4, 0, 1)
    confidence[confidence < 0.1] = 0
    return _fill_holes(depth, confidence), confidence


def choose_sources(camera_to_world: np.ndarray, depth_range: np.ndarray) -> list[list[int]]:
    """Indices, for every frame, of the frames whose viewing angle differs from its own by about `TARGET_ANGLE`."""
    centers = camera_to_world[:, :3, 3]
    # Rays from every camera to the center of the scene in front of each camera.
    center_depth = np.sqrt(depth_range[:, 0] * depth_range[:, 1])
    target = centers + center_depth[:, None] * camera_to_world[:, :3, 2]
    rays = target[:, None] - centers[None]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    own_rays = np.einsum("ttc->tc", rays)
    angle = np.rad2deg(np.arccos(np.clip(np.einsum("tc,tsc->ts", own_rays, rays), -1, 1)))
    chosen = []
    for frame, row in enumerate(angle):
        others = [
            int(other) for other in np.argsort(np.abs(np.log(np.maximum(row, 1e-3) / TARGET_ANGLE))) if other != frame
        ]
        chosen.append(sorted(others[:NUM_SOURCES]))
    return chosen


def agreement(
    depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray, sources: list[list[int]]
) -> np.ndarray:
    """Agreement [T, H, W], in [0, 1], of the depth of each pixel with the depth maps of its source frames.

    A pixel is projected into each source frame and compared with the depth there. The mean is taken over the better
    half of the source frames, because the surface may be occluded in others. 0 where the pixel is outside all of them.
    """
    import cv2

    height, width = depth.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    inverse_intrinsics = np.linalg.inv(intrinsics)
    world_to_camera = invert_pose(camera_to_world.astype(np.float64))
    result = np.zeros(depth.shape, np.float32)
    rays = (np.stack([x, y, np.ones_like(x)], axis=-1) @ inverse_intrinsics.T).astype(np.float32)
    for frame, others in enumerate(sources):
        scores = np.zeros((len(others), height, width), np.float32)
        for score, other in zip(scores, others, strict=True):
            pose = (world_to_camera[other] @ camera_to_world[frame]).astype(np.float32)
            points = (rays * depth[frame][..., None]) @ pose[:3, :3].T + pose[:3, 3]
            z = np.maximum(points[..., 2], 1e-6)
            u = (intrinsics[0, 0] * points[..., 0] / z + intrinsics[0, 2]).astype(np.float32)
            v = (intrinsics[1, 1] * points[..., 1] / z + intrinsics[1, 2]).astype(np.float32)
            other_depth = cv2.remap(
                depth[other], u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0
            )
            error = np.abs(other_depth - z) / z
            score[:] = np.where((other_depth > 0) & (points[..., 2] > 0), np.exp(-error / AGREEMENT_SCALE), 0)
        best = -np.sort(-scores, axis=0)[: max(1, len(others) // 2)]
        result[frame] = best.mean(axis=0)
    return result


def _plane_costs(
    cost: np.ndarray,  # [D, H, W], written
    reference: np.ndarray,  # [H, W]
    others: np.ndarray,  # [S, H, W]
    intrinsics: np.ndarray,
    relative: list[np.ndarray],  # S of [4, 4], reference camera to source camera
    inverse_depths: np.ndarray,  # [D]
) -> None:
    """Write matching costs, 1 - correlation, averaged over the best two sources to exclude occlusions."""
    import cv2

    size = (WINDOW, WINDOW)
    inverse_intrinsics = np.linalg.inv(intrinsics)
    mean = cv2.blur(reference, size)
    deviation = np.sqrt(cv2.blur(reference * reference, size) - mean * mean + _NOISE)
    height, width = reference.shape
    for plane, inverse in enumerate(inverse_depths):
        least = np.full_like(reference, 1)
        second = np.full_like(reference, 1)
        for other, pose in zip(others, relative, strict=True):
            # x_source ~ K (R + t n' / d) K^-1 x_reference, for the plane z = d with the normal n = (0, 0, 1).
            homography = pose[:3, :3].copy()
            homography[:, 2] += pose[:3, 3] * inverse
            homography = intrinsics @ homography @ inverse_intrinsics
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpPerspective(other, homography, (width, height), flags=flags, borderValue=-1)
            outside = warped < -1e-3
            warped_mean = cv2.blur(warped, size)
            variance = cv2.blur(cv2.multiply(warped, warped), size)
            variance = cv2.subtract(variance, cv2.multiply(warped_mean, warped_mean)) + _NOISE
            covariance = cv2.blur(cv2.multiply(reference, warped), size)
            covariance = cv2.subtract(covariance, cv2.multiply(mean, warped_mean))
            unlike = 1 - cv2.divide(covariance, cv2.multiply(deviation, cv2.sqrt(variance)))
            unlike[outside] = 1
            second = cv2.min(second, cv2.max(least, unlike))
            least = cv2.min(least, unlike)
        np.add(least, second, out=cost[plane])
        cost[plane] *= 0.5


# Variance of image noise: with less texture, the correlation tends to 0.
_NOISE = np.float32((1.5 / 255) ** 2)


def _best_planes(cost: np.ndarray, inverse_depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] of the best plane after semi-global matching, refined between planes, and its correlation [H, W]."""
    total = _aggregate(cost)
    best = total.argmin(axis=0)
    inner = np.clip(best, 1, len(cost) - 2)
    below, at, above = (np.take_along_axis(total, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1))
    curvature = below - 2 * at + above
    shift = np.where(curvature > 1e-6, 0.5 * (below - above) / np.maximum(curvature, 1e-6), 0)
    position = np.where(inner == best, best + np.clip(shift, -0.5, 0.5), best)
    inverse = np.interp(position, np.arange(len(inverse_depths)), inverse_depths)
    correlation = 1 - np.take_along_axis(cost, best[None], axis=0)[0]
    return (1 / inverse).astype(np.float32), correlation


def _aggregate(cost: np.ndarray, *, small: float = 0.06, large: float = 0.5) -> np.ndarray:
    """Sum path costs over four directions (semi-global matching).

    A change by one plane is penalized by `small`, any larger change by `large`.
    """
    total = np.zeros_like(cost)
    for axis in (1, 2):
        lines = np.ascontiguousarray(np.moveaxis(cost, axis, 0))
        sums = np.zeros_like(lines)
        for order in (range(len(lines)), range(len(lines) - 1, -1, -1)):
            path = np.zeros_like(lines[0])
            for number in order:
                least = path.min(axis=0)
                best = np.minimum(path, least + np.float32(large))
                np.minimum(best[1:], path[:-1] + np.float32(small), out=best[1:])
                np.minimum(best[:-1], path[1:] + np.float32(small), out=best[:-1])
                best -= least
                path = np.add(lines[number], best, out=best)
                sums[number] += path
        total += np.moveaxis(sums, 0, axis)
    return total


def _fill_holes(depth: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Depth where the confidence is positive, elsewhere interpolated from the inverse depth of surrounding pixels."""
    import cv2

    filled = np.empty_like(depth)
    for out, z, weight in zip(filled, depth, confidence, strict=True):
        levels = [(weight / z, weight)]
        while min(levels[-1][1].shape) > 2:
            levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
        value, total = levels.pop()
        coarse = value.sum() / max(float(total.sum()), 1e-12) if total.sum() > 1e-12 else float(np.median(1 / z))
        estimate = np.where(total > 1e-6, value / np.maximum(total, 1e-6), np.float32(coarse)).astype(np.float32)
        for value, total in reversed(levels):
            enlarged = np.asarray(cv2.resize(estimate, total.shape[::-1], interpolation=cv2.INTER_LINEAR))
            blend = np.minimum(total * 4, 1)
            estimate = blend * value / np.maximum(total, 1e-6) + (1 - blend) * enlarged
        out[:] = np.where(weight > 0, z, 1 / np.maximum(estimate, 1e-6))
    return filled


def former_dynamic_mask(
    gray: np.ndarray, depth: np.ndarray, confidence: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray
) -> np.ndarray:
    """Mask [T, H, W] bool of textured pixels whose optical flow to the next frame contradicts a static scene.

    Pixels whose depth other views confirm are static.
    """
    height, width = gray.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    points = unproject(depth, intrinsics, camera_to_world)
    mask = np.zeros(gray.shape, bool)
    for frame in range(len(gray)):
        other = frame + 1 if frame + 1 < len(gray) else frame - 1
        seen, _ = project(points[frame : frame + 1], intrinsics, camera_to_world[other : other + 1])
        rigid = np.nan_to_num(seen[0] - grid)
        residual = np.linalg.norm(optical_flow(gray[frame], gray[other], "coarse") - rigid, axis=-1)
        mask[frame] = (residual > 2 + 0.2 * np.linalg.norm(rigid, axis=-1)) & (_gradient(gray[frame]) > 10)
    return mask & (confidence < 0.2)


def _gradient(gray: np.ndarray) -> np.ndarray:
    """Gradient magnitude [H, W] in levels per pixel (Sobel)."""
    import cv2

    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 4
