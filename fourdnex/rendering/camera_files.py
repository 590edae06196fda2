"""Camera files as people have them, read as a `CameraPath`: nerfstudio, Blender-NeRF, instant-ngp, and our own."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fourdnex.io.files import read_json
from fourdnex.rendering.camera_path import CameraPath, pose_problem

ROUNDING_TOLERANCE = 1e-2
"""Most that an entry of R R^T may be off from the identity: what three decimals leave, with room. Such a matrix is
replaced by the nearest rotation; one that is off by more is refused."""

_PINHOLES = ("pinhole", "simple_pinhole", "perspective", "opencv", "simple_radial", "radial")
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "p3", "p4", "distortion_params")
_FOCAL = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
_OTHER_LENSES = ("is_fisheye", "equirectangular", "latlong")  # switches of instant-ngp
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def load_path(path: str | os.PathLike[str], *, intrinsics: np.ndarray, height: int, width: int) -> CameraPath:
    """Read cameras from JSON: a transforms.json, a path of nerfstudio's viewer, or what `CameraPath.save` writes.

    A **transforms.json** (nerfstudio, instant-ngp, Blender-NeRF, our own export) has `frames`, each with a
    `transform_matrix`, camera to world, 4 x 4 or 3 x 4, as rows or flat. Axes of the camera are OpenGL's (x right, y
    up, z backward) and pixel centers lie at halves, unless the field `axes` begins with "OpenCV", as in a scene's
    `cameras.json`: then axes are OpenCV's and pixel centers lie at integers. ("OpenGL" may be said as well.)
    `applied_transform`, `applied_scale` and `world_scale` say how the file's world was made from the scene's, and are
    undone: a point of the scene is `applied_transform` times it, then times both scales, in the file. Without them the
    file's world is the scene's.

    The lens, in the file or in a frame: `fl_x` and `fl_y`, or `camera_angle_x` and `camera_angle_y` (field of view,
    radians), or `x_fov` and `y_fov` (degrees), or one of them, for square pixels; `cx`, `cy` (default: the middle of
    `w` x `h`, or the scene's); `w` and `h`, the image size that they hold for (default: the scene's). Where its shape
    is another one than the scene's, views are as high as the image, and wider or narrower about its middle. A frame
    without a lens has the scene's. `time` in [0, 1] in each frame (default: evenly with the frames); `fps` in the file.

    A **viewer's path** has `camera_path`, each with `camera_to_world` and `fov`, the vertical field of view in
    degrees; views are as high as that, and as wide as the scene's frames make them. `render_time` is their time, and
    `fps`, or else the `seconds` of the whole, their rate. nerfstudio's viewer writes them in the world of its model:
    add `transform` and `scale` of the model's dataparser_transforms.json as `applied_transform` and `applied_scale`.

    Args:
        intrinsics: [3, 3] of the scene, for views that state no lens.
        height, width: of the scene's frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a file, a lens other than a pinhole without distortion, or a matrix that is not a rotation
            and translation; names the file, the frame and the field, and what was expected.
    """
    content = read_json(path)
    views, matrix_key, time_key = _views(content, path)
    is_opencv = _has_opencv_axes(content, path)
    turn, shift, scale = _applied(content, path)
    poses, lenses, times = [], [], []
    for number, view in enumerate(views):
        where = f"{path}: {'frames' if matrix_key == 'transform_matrix' else 'camera_path'}[{number}]"
        if not isinstance(view, dict) or matrix_key not in view:
            raise ValueError(f"{where}: expected an object with a {matrix_key}")
        pose = _rigid(view[matrix_key], f"{where}.{matrix_key}")
        pose[:3, 3] = turn.T @ (pose[:3, 3] / scale - shift)
        pose[:3, :3] = turn.T @ pose[:3, :3]
        poses.append(pose if is_opencv else pose @ _FROM_OPENGL)
        if matrix_key == "camera_to_world":
            fields = content | _viewer_lens(view, height, width)
        else:
            fields = _lens_fields(content, view)
        _check_pinhole(fields, where)
        lenses.append(_lens(fields, where, -0.5 if is_opencv else 0.0, intrinsics, height, width))
        time = _number(view.get(time_key, number / max(len(views) - 1, 1)), f"{where}.{time_key}")
        if not 0 <= time <= 1:
            raise ValueError(
                f"{where}.{time_key}: expected a number in [0, 1], got {time:g}: 0 is the scene's first frame and 1 "
                "its last; divide seconds by its duration"
            )
        times.append(time)
    return CameraPath(
        camera_to_world=np.stack(poses),
        intrinsics=np.stack(lenses),
        times=np.array(times),
        fps=_rate(content, len(views), path),
    )


def _views(content: Any, path: str | os.PathLike[str]) -> tuple[list[Any], str, str]:
    """The views of a file, the name of their matrix and of their time."""
    formats = {"frames": ("transform_matrix", "time"), "camera_path": ("camera_to_world", "render_time")}
    for key, (matrix_key, time_key) in formats.items():
        views = content.get(key) if isinstance(content, dict) else None
        if isinstance(views, list) and views:
            return views, matrix_key, time_key
    raise ValueError(
        f"{path}: expected an object with a list of frames, each with a transform_matrix (nerfstudio's "
        "transforms.json), or a camera_path, each with a camera_to_world (a path of its viewer)"
    )


def _has_opencv_axes(content: Mapping[str, Any], path: str | os.PathLike[str]) -> bool:
    axes = content.get("axes", "OpenGL")
    for name in ("opencv", "opengl"):
        if isinstance(axes, str) and axes.lower().startswith(name):
            return name == "opencv"
    raise ValueError(
        f'{path}: axes: expected "OpenCV" (x right, y down, z forward) or "OpenGL" (x right, y up, z backward), '
        f"got {axes!r}"
    )


def _rate(content: Mapping[str, Any], num_views: int, path: str | os.PathLike[str]) -> float | None:
    """Views a second; None where the file says nothing."""
    for key in ("fps", "seconds"):
        if key in content:
            value = _number(content[key], f"{path}: {key}")
            if value <= 0:
                raise ValueError(f"{path}: {key}: expected a positive number, got {value:g}")
            return value if key == "fps" else num_views / value
    return None


def _applied(content: Mapping[str, Any], path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], translation [3] and then scale, by which the file's world was made from the scene's."""
    applied = _rigid(content.get("applied_transform", np.eye(4)), f"{path}: applied_transform")
    scales = [_number(content.get(key, 1), f"{path}: {key}") for key in ("applied_scale", "world_scale")]
    if min(scales) <= 0:
        raise ValueError(f"{path}: expected positive applied_scale and world_scale, got {scales}")
    return applied[:3, :3], applied[:3, 3], float(np.prod(scales))


def _rigid(value: Any, where: str) -> np.ndarray:
    """Pose [4, 4] from 4 x 4 or 3 x 4 numbers, as rows or flat, its rotation made exact."""
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


def _lens_fields(content: Mapping[str, Any], view: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the file and, over them, of the view: a focal length there takes the place of all of the file's."""
    has_own = any(key in view for key in _FOCAL)
    return {key: value for key, value in content.items() if not (has_own and key in _FOCAL)} | dict(view)


def _viewer_lens(view: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """The vertical field of view of square pixels, about the middle of the scene's frames."""
    return {"y_fov": view["fov"], "w": width, "h": height} if "fov" in view else {}


def _check_pinhole(fields: Mapping[str, Any], where: str) -> None:
    for key in ("camera_model", "camera_type"):
        if str(fields.get(key, "pinhole")).lower() not in _PINHOLES:
            raise ValueError(f"{where}: {key}: expected a pinhole camera, got {fields[key]!r}")
    for key in _OTHER_LENSES:
        if fields.get(key):
            raise ValueError(f"{where}: {key}: expected a pinhole camera, got {key} {fields[key]!r}")
    for key in _DISTORTION:
        values = fields.get(key, 0.0)
        for value in values if isinstance(values, list) else [values]:
            if _number(value, f"{where}.{key}") != 0:
                raise ValueError(
                    f"{where}.{key}: expected 0, got {value:g}: views have no distortion; undistort the cameras first"
                )


def _lens(
    fields: Mapping[str, Any], where: str, border: float, intrinsics: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Intrinsics [3, 3] in pixels of the scene's frames, whose centers are integers.

    Args:
        border: where the image begins, in the file's pixels.
    """
    lens = np.asarray(intrinsics, np.float64).copy()
    given = {key: _number(fields[key], f"{where}.{key}") for key in (*_FOCAL, "cx", "cy", "w", "h") if key in fields}
    if min(given.get("w", 1), given.get("h", 1)) <= 0:
        raise ValueError(f"{where}: expected positive w and h, got {given}")
    scale = height / given["h"] if "h" in given else width / given.get("w", width)  # both ways: pixels stay square
    sizes = (width, height)
    size = given.get("w", width / scale), given.get("h", height / scale)
    focal = _focal(given, "x", size[0], where), _focal(given, "y", size[1], where)
    has_focal = focal != (None, None)
    for axis, key in enumerate(("cx", "cy")):
        if has_focal:  # pixels are square where one of the two is missing
            lens[axis, axis] = scale * next(f for f in (focal[axis], focal[1 - axis]) if f is not None)
        # Images are laid over each other by their middles.
        if key in given:
            lens[axis, 2] = (given[key] - border - size[axis] / 2) * scale + (sizes[axis] - 1) / 2
        elif has_focal and ("w" in given or "h" in given):
            lens[axis, 2] = (sizes[axis] - 1) / 2
    if has_focal:
        lens[0, 1] = 0
    return lens


def _focal(given: Mapping[str, float], axis: str, size: float, where: str) -> float | None:
    """Focal length in the file's pixels along one axis, of an image of `size` pixels; None where the file has none."""
    if (key := f"fl_{axis}") in given:
        if given[key] <= 0:
            raise ValueError(f"{where}: expected positive {key}, got {given[key]:g}")
        return given[key]
    for key, unit, half_turn in ((f"camera_angle_{axis}", "radians", np.pi), (f"{axis}_fov", "degrees", 180.0)):
        if key in given:
            if not 0 < given[key] < half_turn:
                raise ValueError(f"{where}.{key}: expected 0 to {half_turn:g} {unit}, got {given[key]:g}")
            return size / 2 / float(np.tan(given[key] / half_turn * np.pi / 2))
    return None


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    return float(value)
