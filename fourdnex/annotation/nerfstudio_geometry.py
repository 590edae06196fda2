"""Geometry in the layout of nerfstudio: transforms.json, and the depth files that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.annotation.imported_video import ImportedVideo, frames_of_one_size, pinhole_matrices
from fourdnex.io.files import read_json
from fourdnex.io.numpy_files import read_npy

MILLIMETER = 1e-3
"""Default unit of depth files."""
_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def find_nerfstudio(root: Path, name: str) -> Path | None:
    """The file transforms.json of nerfstudio."""
    path = root / name / "transforms.json"
    return path if path.is_file() else None


def open_nerfstudio(path: Path) -> ImportedVideo:
    """Frames with `transform_matrix` (camera to world, OpenGL axes) and `depth_file_path` (16-bit PNG, or `.npy`).

    Frames have the number at the end of the name of their image, counted from 1 if no name has the number 0. Depth is
    in units of `depth_unit_scale_factor`, by default a millimeter; where no frame has depth, there are cameras only.
    Intrinsics may differ between frames; lens distortion is refused.
    """
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not (isinstance(frames, list) and frames and all(isinstance(frame, dict) for frame in frames)):
        raise ValueError(f"{path}: frames: expected a list of frames")
    frames = sorted((content | frame for frame in frames), key=lambda frame: _number(path, frame))
    for frame in frames:
        _check_camera(path, frame)
    numbers = np.array([_number(path, frame) for frame in frames])
    files = [path.parent / str(frame.get("depth_file_path")) for frame in frames]
    lacking = [str(frame["file_path"]) for frame in frames if not isinstance(frame.get("depth_file_path"), str)]
    has_depth = len(lacking) < len(frames)
    if lacking and has_depth:
        count = f"{len(lacking)} of {len(frames)} frames"
        raise ValueError(f"{path}: depth_file_path: {count} have a camera without depth, such as {lacking[0]}")
    unit = np.float32(_float(path, content, "depth_unit_scale_factor", MILLIMETER))
    first = _read_depth(files[0]).shape if has_depth else (_float(path, frames[0], "h"), _float(path, frames[0], "w"))
    size = (int(first[0]), int(first[1]))
    fields = ("fl_x", "fl_y", "cx", "cy", "w", "h")
    fx, fy, cx, cy, width, height = np.array([[_float(path, frame, field) for field in fields] for frame in frames]).T
    if min(*size, *width, *height) < 1:
        raise ValueError(f"{path}: w, h: expected positive sizes, got {width[0]:g}, {height[0]:g}")
    x, y = size[1] / width, size[0] / height
    # In nerfstudio, the center of the first pixel is at (0.5, 0.5).
    intrinsics = pinhole_matrices(np.stack([fx * x, fy * y, cx * x - 0.5, cy * y - 0.5], axis=1))
    return ImportedVideo(
        format="nerfstudio",
        frames=numbers if numbers.min() == 0 else numbers - 1,
        camera_to_world=np.stack([_matrix(path, frame) for frame in frames]) @ _OPENGL_TO_OPENCV,
        intrinsics=intrinsics,
        size=size,
        depth=frames_of_one_size(lambda index: _read_depth(files[index]) * unit, size, str(path))
        if has_depth
        else None,
    )


def _number(path: Path, frame: dict[str, Any]) -> int:
    """Number at the end of the name of a frame's image."""
    found = re.search(r"(\d+)\.?\w*$", str(frame.get("file_path")))
    if found is None:
        raise ValueError(f"{path}: file_path: expected a name that ends with a number, got {frame.get('file_path')!r}")
    return int(found[1])


def _check_camera(path: Path, frame: dict[str, Any]) -> None:
    """Raise ValueError unless a frame's camera is a pinhole camera."""
    model = frame.get("camera_model", "OPENCV")
    if model not in _MODELS:
        raise ValueError(f"{path}: camera_model: expected one of {', '.join(_MODELS)}, got {model!r}")
    distorted = [field for field in _DISTORTION if _float(path, frame, field, 0.0) != 0]
    if distorted:
        raise ValueError(f"{path}: {', '.join(distorted)}: expected images without lens distortion (0)")


def _float(path: Path, values: dict[str, Any], field: str, default: float | None = None) -> float:
    """A finite number of a frame, or of all frames."""
    value = values.get(field, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise ValueError(f"{path}: {field}: expected a number, got {str(value)[:50]!r}")
    return float(value)


def _matrix(path: Path, frame: dict[str, Any]) -> np.ndarray:
    """The pose [4, 4] of a frame."""
    try:
        matrix = np.array(frame.get("transform_matrix"), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: transform_matrix: expected 4x4 numbers: {error}") from error
    if matrix.shape != (4, 4):
        raise ValueError(f"{path}: transform_matrix: expected [4, 4], got {list(matrix.shape)}")
    return matrix


def _read_depth(file: Path) -> np.ndarray:
    """Depth [H, W] float32 in the unit of the file; NaN where there is none (0)."""
    from PIL import Image

    if not file.is_file():
        raise ValueError(f"{file}: expected a depth file, found none")
    if file.suffix == ".npy":
        depth = read_npy(file).astype(np.float32)
    else:
        try:
            with Image.open(file, formats=("PNG",)) as image:
                if not image.mode.startswith("I"):
                    raise ValueError(f"{file}: expected a 16-bit grayscale PNG image, got mode {image.mode}")
                depth = np.asarray(image).astype(np.float32)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file}: expected a 16-bit grayscale PNG image: {error}") from error
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2:
        raise ValueError(f"{file}: expected [H, W], got {list(depth.shape)}")
    return np.where(depth > 0, depth, np.float32(np.nan))
