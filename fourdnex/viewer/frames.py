"""The viewer's transfer format: a JSON description of the scene, and one block of bytes per frame.

A block holds an image (JPEG) and 16-bit depth, which the page unprojects itself. A frame of 480 x 720 takes 0.1 to
0.7 MB, compared to 5.2 MB for positions and colors, and the error of a point is at most half a quantization step.
"""

import struct
import zlib
from typing import Any

import numpy as np

from fourdnex.geometry.cameras import invert_pose, pixel_rays
from fourdnex.scene import Scene4D

MAX_POINTS = 24_000_000
"""Maximum number of points over all frames: 7 bytes each on the GPU, at most 200 MB of transfer. Larger scenes are
subsampled with a stride; 49 frames of 480 x 720 (16.9 million points) are below the limit."""

_MAX_STEPS = 65534  # quantization steps between a frame's minimum and maximum log(depth); code 0: no depth
_MIN_STEP = 2e-4  # of log(depth): smaller steps transfer mostly noise
_HEADER = struct.Struct("<3I2f")  # sizes of depth, confidence and image in bytes; log(near), quantization step
_ORIGIN_SCALE = np.uint8(85)  # maps origins 0 to 3 to levels 0 to 255, like confidence
_OCCLUSION = 0.2  # relative depth: a surface nearer than a point by more than this occludes it
_SAMPLE_FRAMES, _SAMPLE_STRIDE = 4, 4  # sampling for the color ranges


def pixel_stride(num_frames: int, height: int, width: int) -> int:
    """The smallest stride over rows and columns with at most `MAX_POINTS` points."""
    stride = 1
    while num_frames * -(-height // stride) * -(-width // stride) > MAX_POINTS and stride < max(height, width):
        stride += 1
    return stride


def describe(scene: Scene4D, *, title: str) -> dict[str, Any]:
    """Everything except the frames, as JSON: sizes, cameras, initial view, color ranges, provenance."""
    stride = pixel_stride(*scene.depth.shape)
    k = scene.intrinsics
    sampled = np.unique(np.linspace(0, scene.num_frames - 1, _SAMPLE_FRAMES).astype(int))
    sample = scene.depth[sampled][:, ::_SAMPLE_STRIDE, ::_SAMPLE_STRIDE]
    depth = sample[np.isfinite(sample)]
    near, middle, far = np.percentile(depth, [2, 50, 98]) if depth.size else (0.5, 1.0, 2.0)
    motion = np.concatenate([point_motion(scene, t, stride=_SAMPLE_STRIDE).ravel() for t in sampled])
    motion = motion[np.isfinite(motion)]
    max_motion = float(np.percentile(motion, 98)) if motion.size else 0.0
    return {
        "title": title,
        "details": _details(scene, stride),
        "num_frames": scene.num_frames,
        "height": -(-scene.height // stride),
        "width": -(-scene.width // stride),
        "fps": float(scene.fps),
        # fx, fy, cx, cy, skew of the subsampled image
        "intrinsics": [float(value) / stride for value in (k[0, 0], k[1, 1], k[0, 2], k[1, 2], k[0, 1])],
        "camera_to_world": [[round(float(v), 7) for v in pose[:3].ravel()] for pose in scene.camera_to_world],
        "has_confidence": scene.confidence is not None,
        "has_origin": scene.origin is not None,
        "pivot": (scene.camera_to_world[0, :3, 3] + float(middle) * scene.camera_to_world[0, :3, 2]).tolist(),
        "typical_depth": float(middle),
        "depth_range": [float(near), float(far)],
        # Motion below a thousandth of the depth per frame is depth noise and must not reach the brightest color.
        "motion_range": max(max_motion, 1e-3 * float(middle)),
    }


def frame_block(scene: Scene4D, t: int) -> bytes:
    """Frame `t` as bytes: header, depth (zlib), confidence (zlib, optional), image (JPEG), origin (zlib, optional).

    Depth is 16 bit on a logarithmic scale that starts at the frame's nearest point; 0 means no depth. The relative
    error is at most 1e-4 unless the far / near ratio exceeds 500,000.

    Raises:
        IndexError: the scene has no frame `t`.
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
        origin = zlib.compress((scene.origin[t][::stride, ::stride] * _ORIGIN_SCALE).tobytes(), 1)
    depth_data = zlib.compress(encode_codes(codes), 1)
    header = _HEADER.pack(len(depth_data), len(confidence), len(image), low, step)
    return header + depth_data + confidence + image + origin


def point_motion(scene: Scene4D, t: int, *, stride: int = 1) -> np.ndarray:
    """Motion of the points of frame `t` between neighboring frames, in world units: [H, W] float32, NaN if unknown.

    The distance, along the neighboring camera's line of sight, between a point and the surface that camera observes
    (inverse depth interpolated bilinearly, exact on planes); the minimum over the two neighbors. A surface nearer by
    more than a fifth occludes the point, whose motion is then unknown. Static points have 0 under any camera motion;
    motion across the line of sight without a change in depth is not detected. The page computes the same in a shader.

    Args:
        stride: stride over rows and columns; the result is subsampled by it.
    """
    rays = pixel_rays(scene.height, scene.width, scene.intrinsics)[::stride, ::stride].astype(np.float32)
    local = rays * scene.depth[t][::stride, ::stride, None]
    motion = np.full(local.shape[:2], np.nan, np.float32)
    for other in (t - 1, t + 1):
        if 0 <= other < scene.num_frames:
            motion = np.fmin(motion, _distance_to_surface(scene, local, t, other))
    return motion


def _distance_to_surface(scene: Scene4D, local: np.ndarray, t: int, other: int) -> np.ndarray:
    """Distance [H, W] of points [H, W, 3] in camera `t` from the surface of frame `other`, along its lines of sight."""
    import cv2

    poses = scene.camera_to_world.astype(np.float64)
    relative = (invert_pose(poses[other]) @ poses[t]).astype(np.float32)
    points = local @ relative[:3, :3].T + relative[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        sight = points / points[..., 2:]
        pixels = (sight @ scene.intrinsics.T)[..., :2]
        pixels[~(points[..., 2] > 0)] = -10  # outside of the image: unknown
        pixels = np.nan_to_num(pixels, nan=-10).clip(-10, max(scene.height, scene.width) + 10)
        x, y = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        inverse = cv2.remap(
            1 / scene.depth[other], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan")
        )
        difference = 1 / inverse - points[..., 2]
        difference[difference < -_OCCLUSION * points[..., 2]] = np.nan
        return np.abs(difference) * np.linalg.norm(sight, axis=-1)


def _depth_codes(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Codes [H, W] uint16, log(depth) of code 1, and the quantization step."""
    valid = np.isfinite(depth)
    if not valid.any():
        return np.zeros(depth.shape, np.uint16), 0.0, 0.0
    logarithm = np.log(np.where(valid, depth, 1))
    low, high = float(logarithm[valid].min()), float(logarithm[valid].max())
    step = max((high - low) / _MAX_STEPS, _MIN_STEP)
    return np.where(valid, 1 + np.round((logarithm - low) / step), 0).astype(np.uint16), low, step


def encode_codes(codes: np.ndarray) -> bytes:
    """Codes [H, W] uint16 as bytes that compress well.

    Zigzag-encoded differences along rows, a plane of low bytes followed by a plane of high bytes.
    """
    difference = np.diff(codes, axis=1, prepend=np.uint16(0))
    zigzag = (difference << 1) ^ (difference.view(np.int16) >> 15).view(np.uint16)
    return (zigzag & 255).astype(np.uint8).tobytes() + (zigzag >> 8).astype(np.uint8).tobytes()


def _details(scene: Scene4D, stride: int) -> list[tuple[str, str]]:
    """Rows of the details panel: name and value."""
    size = f"{scene.num_frames} frames of {scene.width} × {scene.height}"
    if stride > 1:
        size += f", subsampled with stride {stride}"
    return [("size", size), *_flatten(scene.provenance)]


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name and value of every leaf of nested dictionaries; None is omitted."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            lines += _flatten(value, f"{name} / ")
        elif value is not None:
            lines.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return lines
