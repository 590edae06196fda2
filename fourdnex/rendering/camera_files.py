"""Reads camera files of nerfstudio, Blender-NeRF, instant-ngp and fourdnex as a `CameraPath`."""

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from fourdnex.io.files import read_json
from fourdnex.rendering.camera_path import CameraPath, pose_problem

ROUNDING_TOLERANCE = 1e-2
"""Maximum deviation of an entry of R R^T from the identity, as caused by rounding to three decimals. Such a matrix is
replaced by the nearest rotation; larger deviations are rejected."""

_PINHOLES = ("pinhole", "simple_pinhole", "perspective", "opencv", "simple_radial", "radial")
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "p3", "p4", "distortion_params")
_FOCAL = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
_NON_PINHOLE_FLAGS = ("is_fisheye", "equirectangular", "latlong")  # of instant-ngp
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def load_path(path: str | os.PathLike[str], *, intrinsics: np.ndarray, height: int, width: int) -> CameraPath:
    """Read cameras from JSON: a transforms.json, a camera path of nerfstudio's viewer, or a file of `CameraPath.save`.

    A **transforms.json** (nerfstudio, instant-ngp, Blender-NeRF, `export_nerfstudio`) has a list `frames`, each with a
    camera-to-world `transform_matrix`, 4 x 4 or 3 x 4, nested or flat. Camera axes are OpenGL's (x right, y up, z
    backward) and pixel centers are at half-integers. If the field `axes` starts with "OpenCV", as in the `cameras.json`
    of a scene, axes are OpenCV's and pixel centers are at integers; "OpenGL" is the default. `applied_transform`,
    `applied_scale` and `world_scale` describe how the file's world was derived from the scene's world, by the transform
    and then by both scales, and are inverted. Without them, the worlds are the same.

    Intrinsics, per file or per frame: `fl_x` and `fl_y`, or `camera_angle_x` and `camera_angle_y` (field of view in
    radians), or `x_fov` and `y_fov` (degrees), or one of a pair for square pixels; `cx`, `cy` (default: the center of
    `w` x `h`, or the scene's); `w` and `h`, the image size they refer to (default: the scene's). If its aspect ratio
    differs from the scene's, the vertical field of view is kept. Frames without intrinsics have the scene's. `time` is
    in [0, 1] per frame (default: evenly spaced); `fps` per file.

    A **camera path** of the viewer has a list `camera_path`, each with `camera_to_world` and `fov`, the vertical field
    of view in degrees; the horizontal one follows from the scene's aspect ratio. `render_time` is the time, and `fps`
    or `seconds`, the total duration, the rate. nerfstudio's viewer writes poses in the world of its model: copy
    `transform` and `scale` of the model's dataparser_transforms.json to `applied_transform` and `applied_scale`.

    Args:
        intrinsics: [3, 3] of the scene, for views without intrinsics.
        height, width: of the scene's frames.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another format, a camera that is not a pinhole without distortion, or a matrix that is not rigid;
            the message names file, frame and field.
    """
    content = read_json(path)
    views, matrix_key, time_key = _views(content, path)
    is_opencv = _has_opencv_axes(content, path)
    rotation, translation, scale = _applied_transform(content, path)
    poses, intrinsics_per_view, times = [], [], []
    for number, view in enumerate(views):
        where = f"{path}: {'frames' if matrix_key == 'transform_matrix' else 'camera_path'}[{number}]"
        if not isinstance(view, dict) or matrix_key not in view:
            raise ValueError(f"{where}: expected an object with a {matrix_key}")
        pose = _rigid(view[matrix_key], f"{where}.{matrix_key}")
        pose[:3, 3] = rotation.T @ (pose[:3, 3] / scale - translation)
        pose[:3, :3] = rotation.T @ pose[:3, :3]
        poses.append(pose if is_opencv else pose @ _FROM_OPENGL)
        if matrix_key == "camera_to_world":
            fields = content | _viewer_fields(view, height, width)
        else:
            fields = _merged_fields(content, view)
        _check_pinhole(fields, where)
        image_border = -0.5 if is_opencv else 0.0
        intrinsics_per_view.append(_intrinsics(fields, where, image_border, intrinsics, height, width))
        time = _number(view.get(time_key, number / max(len(views) - 1, 1)), f"{where}.{time_key}")
        if not 0 <= time <= 1:
            raise ValueError(
                f"{where}.{time_key}: expected a number in [0, 1], got {time:g}: 0 is the scene's first frame and 1 "
                "its last; divide times in seconds by the duration"
            )
        times.append(time)
    return CameraPath(
        camera_to_world=np.stack(poses),
        intrinsics=np.stack(intrinsics_per_view),
        times=np.array(times),
        fps=_rate(content, len(views), path),
    )


def _views(content: Any, path: str | os.PathLike[str]) -> tuple[list[Any], str, str]:
    """The views of a file, and the keys of their matrix and time."""
    formats = {"frames": ("transform_matrix", "time"), "camera_path": ("camera_to_world", "render_time")}
    for key, (matrix_key, time_key) in formats.items():
        views = content.get(key) if isinstance(content, dict) else None
        if isinstance(views, list) and views:
            return views, matrix_key, time_key
    raise ValueError(
        f"{path}: expected an object with a list of frames, each with a transform_matrix (nerfstudio's "
        "transforms.json), or a camera_path, each with a camera_to_world (nerfstudio's viewer)"
    )


def _has_opencv_axes(content: Mapping[str, Any], path: str | os.PathLike[str]) -> bool:
    """Whether the file's camera axes are OpenCV's; else OpenGL's."""
    axes = content.get("axes", "OpenGL")
    for name in ("opencv", "opengl"):
        if isinstance(axes, str) and axes.lower().startswith(name):
            return name == "opencv"
    raise ValueError(
        f'{path}: axes: expected "OpenCV" (x right, y down, z forward) or "OpenGL" (x right, y up, z backward), '
        f"got {axes!r}"
    )


def _rate(content: Mapping[str, Any], num_views: int, path: str | os.PathLike[str]) -> float | None:
    """Views per second; None if the file does not specify it."""
    for key in ("fps", "seconds"):
        if key in content:
            value = _number(content[key], f"{path}: {key}")
            if value <= 0:
                raise ValueError(f"{path}: {key}: expected a positive number, got {value:g}")
            return value if key == "fps" else num_views / value
    return None


def _applied_transform(
    content: Mapping[str, Any], path: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], translation [3] and subsequent scale from the scene's world to the file's world."""
    applied = _rigid(content.get("applied_transform", np.eye(4)), f"{path}: applied_transform")
    scales = [_number(content.get(key, 1), f"{path}: {key}") for key in ("applied_scale", "world_scale")]
    if min(scales) <= 0:
        raise ValueError(f"{path}: expected positive applied_scale and world_scale, got {scales}")
    return applied[:3, :3], applied[:3, 3], float(np.prod(scales))


def _rigid(value: Any, where: str) -> np.ndarray:
    """Pose [4, 4] from 4 x 4 or 3 x 4 numbers, nested or flat, with its rotation orthogonalized."""
    try:
        matrix = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{where}: expected 4 rows of 4 numbers, got {error}") from error
    if matrix.dtype.kind not in "if":
        raise ValueError(f"{where}: expected 4 rows of 4 numbers, got {value!r}")
    if matrix.shape in ((12,), (16,)):
        matrix = matrix.reshape(-1, 4)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    matrix = matrix.astype(np.float64)
    if problem := pose_problem(matrix, tolerance=ROUNDING_TOLERANCE):
        raise ValueError(f"{where}: {problem}")
    left, _, right = np.linalg.svd(matrix[:3, :3])
    matrix[:3, :3] = left @ right
    matrix[3] = 0, 0, 0, 1
    return matrix


def _merged_fields(content: Mapping[str, Any], view: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the file overridden by those of the view; a focal length in the view overrides all in the file."""
    has_focal = any(key in view for key in _FOCAL)
    return {key: value for key, value in content.items() if not (has_focal and key in _FOCAL)} | dict(view)


def _viewer_fields(view: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """The viewer's vertical field of view as fields of a transforms.json, for the size of the scene's frames."""
    return {"y_fov": view["fov"], "w": width, "h": height} if "fov" in view else {}


def _check_pinhole(fields: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for cameras that are not pinholes without distortion."""
    for key in ("camera_model", "camera_type"):
        if str(fields.get(key, "pinhole")).lower() not in _PINHOLES:
            raise ValueError(f"{where}: {key}: expected a pinhole camera, got {fields[key]!r}")
    for key in _NON_PINHOLE_FLAGS:
        if fields.get(key):
            raise ValueError(f"{where}: {key}: expected a pinhole camera, got {key} {fields[key]!r}")
    for key in _DISTORTION:
        values = fields.get(key, 0.0)
        for value in values if isinstance(values, list) else [values]:
            if _number(value, f"{where}.{key}") != 0:
                raise ValueError(
                    f"{where}.{key}: expected 0, got {value:g}: distortion is not supported, undistort the cameras"
                )


def _intrinsics(
    fields: Mapping[str, Any], where: str, border: float, default: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Intrinsics [3, 3] in pixels of the scene's frames, pixel centers at integers.

    Args:
        border: coordinate of the image border in the file's convention.
        default: [3, 3] of the scene.
    """
    intrinsics = np.asarray(default, np.float64).copy()
    given = {key: _number(fields[key], f"{where}.{key}") for key in (*_FOCAL, "cx", "cy", "w", "h") if key in fields}
    if min(given.get("w", 1), given.get("h", 1)) <= 0:
        raise ValueError(f"{where}: expected positive w and h, got {given}")
    scale = height / given["h"] if "h" in given else width / given.get("w", width)  # of both axes: pixels stay square
    sizes = (width, height)
    size = given.get("w", width / scale), given.get("h", height / scale)
    focal = _focal(given, "x", size[0], where), _focal(given, "y", size[1], where)
    has_focal = focal != (None, None)
    for axis, key in enumerate(("cx", "cy")):
        if has_focal:  # square pixels if one of the two is missing
            intrinsics[axis, axis] = scale * next(f for f in (focal[axis], focal[1 - axis]) if f is not None)
        # The file's image and the scene's frames are aligned at their centers.
        if key in given:
            intrinsics[axis, 2] = (given[key] - border - size[axis] / 2) * scale + (sizes[axis] - 1) / 2
        elif has_focal and ("w" in given or "h" in given):
            intrinsics[axis, 2] = (sizes[axis] - 1) / 2
    if has_focal:
        intrinsics[0, 1] = 0
    return intrinsics


def _focal(given: Mapping[str, float], axis: str, size: float, where: str) -> float | None:
    """Focal length in the file's pixels along one axis of an image of `size` pixels; None if not specified."""
    if (key := f"fl_{axis}") in given:
        if given[key] <= 0:
            raise ValueError(f"{where}: expected positive {key}, got {given[key]:g}")
        return given[key]
    for key, unit, pi in ((f"camera_angle_{axis}", "radians", np.pi), (f"{axis}_fov", "degrees", 180.0)):
        if key in given:
            if not 0 < given[key] < pi:
                raise ValueError(f"{where}.{key}: expected 0 to {pi:g} {unit}, got {given[key]:g}")
            return size / 2 / float(np.tan(given[key] / pi * np.pi / 2))
    return None


def _number(value: Any, where: str) -> float:
    """A finite number; ValueError otherwise."""
    # A whole number beyond the range of floating point is not finite either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    return float(value)
