"""What a browser gets of a scene: one description, and one block of bytes a frame that it unprojects itself.

A block is an image (JPEG) and 16-bit depth, not a list of points: for a frame of 480 x 720 about 0.1 to 0.7 MB where
float positions and colors are 5.2 MB, and no point is moved by more than the step of its depth.
"""

import struct
import zlib
from typing import Any

import numpy as np

from fourdnex.geometry.cameras import invert_pose, pixel_rays
from fourdnex.scene import Scene4D

MAX_POINTS = 24_000_000
"""Over all frames: 7 bytes each on the graphics card, at most 200 MB of transfer. Of larger scenes every second (third,
...) pixel of every second row is shown; 49 frames of 480 x 720 (16.9 million points) are shown whole."""

_MAX_STEPS = 65534  # of the logarithm of depth between a frame's nearest and farthest; code 0: no depth
_LEAST_STEP = 2e-4  # finer ones are noise, and noise is most of what is transferred
_HEADER = struct.Struct("<3I2f")  # bytes of depth, confidence and image; log(near), length of a step
_ORIGIN_STEP = np.uint8(85)  # so that origins from 0 to 3 are levels from 0 to 255, like confidence
_HIDES = 0.2  # of a point's depth: what a neighbor sees nearer than by this is something else, in front of it
_SAMPLE_FRAMES, _SAMPLE_STRIDE = 4, 4  # what the color ranges are taken from


def pixel_stride(num_frames: int, height: int, width: int) -> int:
    """The smallest stride over rows and columns that leaves at most `MAX_POINTS` points."""
    stride = 1
    while num_frames * -(-height // stride) * -(-width // stride) > MAX_POINTS and stride < max(height, width):
        stride += 1
    return stride


def describe(scene: Scene4D, *, title: str) -> dict[str, Any]:
    """Everything but the frames, as JSON: sizes, cameras, where to look from, ranges of the colors, provenance."""
    stride = pixel_stride(*scene.depth.shape)
    k = scene.intrinsics
    chosen = np.unique(np.linspace(0, scene.num_frames - 1, _SAMPLE_FRAMES).astype(int))
    sample = scene.depth[chosen][:, ::_SAMPLE_STRIDE, ::_SAMPLE_STRIDE]
    depth = sample[np.isfinite(sample)]
    near, middle, far = np.percentile(depth, [2, 50, 98]) if depth.size else (0.5, 1.0, 2.0)
    motion = np.concatenate([point_motion(scene, t, stride=_SAMPLE_STRIDE).ravel() for t in chosen])
    motion = motion[np.isfinite(motion)]
    fastest = float(np.percentile(motion, 98)) if motion.size else 0.0
    return {
        "title": title,
        "about": _about(scene, stride),
        "num_frames": scene.num_frames,
        "height": -(-scene.height // stride),
        "width": -(-scene.width // stride),
        "fps": float(scene.fps),
        # fx, fy, cx, cy, skew of the pixels that are left
        "intrinsics": [float(value) / stride for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2], k[0, 1])],
        "camera_to_world": [[round(float(v), 7) for v in pose[:3].ravel()] for pose in scene.camera_to_world],
        "has_confidence": scene.confidence is not None,
        "has_origin": scene.origin is not None,
        "pivot": (scene.camera_to_world[0, :3, 3] + float(middle) * scene.camera_to_world[0, :3, 2]).tolist(),
        "typical_depth": float(middle),
        "depth_range": [float(near), float(far)],
        # Less than a thousandth of the depth a frame is noise of depth itself, not worth the brightest color.
        "motion_range": max(fastest, 1e-3 * float(middle)),
    }


def frame_block(scene: Scene4D, t: int) -> bytes:
    """Frame `t` for the page: header, deflated depth, deflated confidence (may be missing), a JPEG, and the rest is
    deflated origin (may be missing).

    Depth is 16 bit on a logarithmic scale from the frame's nearest point on, 0 where there is none: within 1e-4 of the
    depth unless the farthest point is 500,000 times as far.

    Raises:
        IndexError: there is no frame `t`.
    """
    import cv2

    stride = pixel_stride(*scene.depth.shape)
    depth, rgb = scene.depth[t][::stride, ::stride], scene.rgb[t][::stride, ::stride]
    codes, low, step = _depth_codes(depth)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # color at full resolution
    image = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), quality)[1].tobytes()
    confidence = b""
    if scene.confidence is not None:
        levels = np.round(scene.confidence[t][::stride, ::stride] * 255).astype(np.uint8)
        confidence = zlib.compress(levels.tobytes(), 1)
    origin = b""
    if scene.origin is not None:
        origin = zlib.compress((scene.origin[t][::stride, ::stride] * _ORIGIN_STEP).tobytes(), 1)
    packed = zlib.compress(pack(codes), 1)
    header = _HEADER.pack(len(packed), len(confidence), len(image), low, step)
    return header + packed + confidence + image + origin


def point_motion(scene: Scene4D, t: int, *, stride: int = 1) -> np.ndarray:
    """How far the points of frame `t` move in the world until a neighboring frame: [H, W] float32, NaN if unknown.

    The distance, along the neighbor's line of sight, between a point and the surface that the neighbor sees there
    (its depth interpolated linearly in 1 / depth, exact on planes); of the two neighbors the smaller one. A surface
    nearer by more than a fifth hides the point, and tells nothing of it. Points that stay where they are have 0 however
    the camera moves; what moves across the line of sight without changing depth is not seen. The page does the same.

    Args:
        stride: only every so many rows and columns; the result has their number.
    """
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics)[::stride, ::stride].astype(np.float32)
    local = rays * scene.depth[t][::stride, ::stride, None]
    motion = np.full(local.shape[:2], np.nan, np.float32)
    for other in (t - 1, t + 1):
        if 0 <= other < scene.num_frames:
            motion = np.fmin(motion, _distance_to_surface(scene, local, t, other))
    return motion


def _distance_to_surface(scene: Scene4D, local: np.ndarray, t: int, other: int) -> np.ndarray:
    import cv2

    poses = scene.camera_to_world.astype(np.float64)
    relative = (invert_pose(poses[other]) @ poses[t]).astype(np.float32)
    points = local @ relative[:3, :3].T + relative[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        sight = points / points[..., 2:]
        pixels = (sight @ scene.intrinsics.T)[..., :2]
        pixels[~(points[..., 2] > 0)] = -10  # outside: unknown
        pixels = np.nan_to_num(pixels, nan=-10).clip(-10, max(scene.height, scene.width) + 10)
        x, y = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        inverse = cv2.remap(
            1 / scene.depth[other], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan")
        )
        behind = 1 / inverse - points[..., 2]
        behind[behind < -_HIDES * points[..., 2]] = np.nan
        return np.abs(behind) * np.linalg.norm(sight, axis=-1)


def _depth_codes(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Codes [H, W] uint16, and log(depth) of code 1 and of one step."""
    valid = np.isfinite(depth)
    if not valid.any():
        return np.zeros(depth.shape, np.uint16), 0.0, 0.0
    logarithm = np.log(np.where(valid, depth, 1))
    low, high = float(logarithm[valid].min()), float(logarithm[valid].max())
    step = max((high - low) / _MAX_STEPS, _LEAST_STEP)
    return np.where(valid, 1 + np.round((logarithm - low) / step), 0).astype(np.uint16), low, step


def pack(codes: np.ndarray) -> bytes:
    """Codes [H, W] uint16 as bytes that deflate well.

    Differences along rows, small ones of either sign as small numbers, low bytes before high ones.
    """
    difference = np.diff(codes, axis=1, prepend=np.uint16(0))
    folded = (difference << 1) ^ (difference.view(np.int16) >> 15).view(np.uint16)
    return (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()


def _about(scene: Scene4D, stride: int) -> list[tuple[str, str]]:
    size = f"{scene.num_frames} frames of {scene.width} × {scene.height}"
    if stride > 1:
        size += f", every {stride}. pixel of every {stride}. row shown"
    return [("size", size), *_lines(scene.provenance)]


def _lines(known: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in known.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            lines += _lines(value, f"{name} / ")
        elif value is not None:
            lines.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return lines
