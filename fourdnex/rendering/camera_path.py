"""CameraPath: where new views are taken from, with which lens and at what time of the scene; and its JSON file."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fourdnex.files import read_json, write_json

OPENCV_AXES = "OpenCV: x right, y down, z forward; transform_matrix maps camera to world; pixel centres at integers"
_RIGID_TOLERANCE = 1e-3
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPath:
    """Cameras of a novel-view video, one a view.

    Raises:
        ValueError: wrong shape, values that are not finite, a pose that is not rigid; the message names the view.
    """

    camera_to_world: np.ndarray  # [N, 4, 4] float64, OpenCV axes, the scene's world
    intrinsics: np.ndarray  # [N, 3, 3] float64, pixels of the scene's own frames
    times: np.ndarray  # [N] float64 in [0, 1]: 0 the scene's first frame, 1 its last

    def __post_init__(self) -> None:
        for name in ("camera_to_world", "intrinsics", "times"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        count = len(self.camera_to_world) if self.camera_to_world.ndim else 0
        for name, shape in (("camera_to_world", (count, 4, 4)), ("intrinsics", (count, 3, 3)), ("times", (count,))):
            if getattr(self, name).shape != shape or count == 0:
                raise ValueError(f"{name}: expected shape {('N', *shape[1:])}, got {getattr(self, name).shape}")
        for view, (pose, lens) in enumerate(zip(self.camera_to_world, self.intrinsics, strict=True)):
            if problem := pose_problem(pose):
                raise ValueError(f"camera_to_world, view {view}: {problem}")
            if not (np.isfinite(lens).all() and lens[0, 0] > 0 and lens[1, 1] > 0):
                raise ValueError(f"intrinsics, view {view}: expected finite values and positive focal lengths")
        if not ((self.times >= 0) & (self.times <= 1)).all():
            raise ValueError("times: expected values in [0, 1]")

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, num_frames: int) -> np.ndarray:
        """The frame [N] of a scene of `num_frames` that each view shows: the nearest in time."""
        return np.round(self.times * (num_frames - 1)).astype(int)

    def at_time(self, time: float) -> "CameraPath":
        """The same cameras with the scene stopped at one time in [0, 1]."""
        return CameraPath(
            camera_to_world=self.camera_to_world, intrinsics=self.intrinsics, times=np.full(len(self), time)
        )

    def save(self, path: str | os.PathLike[str], *, height: int, width: int) -> None:
        """Write the path as JSON that `load_path` reads; `height` and `width` are those of the scene's frames."""
        frames = [
            {
                "transform_matrix": pose.tolist(),
                "fl_x": lens[0][0],
                "fl_y": lens[1][1],
                "cx": lens[0][2],
                "cy": lens[1][2],
                "time": time,
            }
            for pose, lens, time in zip(
                self.camera_to_world, self.intrinsics.tolist(), self.times.tolist(), strict=True
            )
        ]
        write_json(path, {"axes": OPENCV_AXES, "w": width, "h": height, "frames": frames})


def load_path(path: str | os.PathLike[str], *, intrinsics: np.ndarray, height: int, width: int) -> CameraPath:
    """Read a camera path from JSON in nerfstudio's terms.

    `frames` lists views, each with `transform_matrix` [4, 4], camera to world. Axes are nerfstudio's, which are
    OpenGL's (x right, y up, z backward), unless the field `axes` begins with "OpenCV", as in a scene's `cameras.json`
    and in what `CameraPath.save` writes. The world is the scene's (OpenCV axes of its first camera) in both cases.

    Optional in the file or in each frame: `fl_x`, `fl_y` (default: `fl_x`), `cx`, `cy` (default: the scene's or the
    middle of `w` x `h`); `w` and `h` say for which picture size they hold (default: the scene's). Optional in
    each frame: `time` in [0, 1]; without it time runs evenly with the frames.

    Args:
        intrinsics: [3, 3] of the scene, for views that state no lens.
        height, width: of the scene's frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a file; names the file, the frame, and what was expected.
    """
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{path}: expected an object with a list of frames, each with a transform_matrix")
    opencv = str(content.get("axes", "")).lower().startswith("opencv")
    poses, lenses, times = [], [], []
    for number, frame in enumerate(frames):
        where = f"{path}: frames[{number}]"
        if not isinstance(frame, dict) or "transform_matrix" not in frame:
            raise ValueError(f"{where}: expected an object with a transform_matrix")
        pose = _matrix(frame["transform_matrix"], f"{where}.transform_matrix")
        poses.append(pose if opencv else pose @ _FROM_OPENGL)
        lenses.append(_lens(content | frame, where, intrinsics, height, width))
        time = _number(frame.get("time", number / max(len(frames) - 1, 1)), f"{where}.time")
        if not 0 <= time <= 1:
            raise ValueError(f"{where}.time: expected a number in [0, 1], got {time:g}")
        times.append(time)
    return CameraPath(camera_to_world=np.stack(poses), intrinsics=np.stack(lenses), times=np.array(times))


def pose_problem(pose: np.ndarray) -> str:
    """What keeps a matrix from being a rigid camera_to_world, in words; empty when nothing does."""
    if pose.shape != (4, 4):
        return f"expected a 4 x 4 matrix, got shape {pose.shape}"
    if not np.isfinite(pose).all():
        return "expected finite numbers, got NaN or infinity"
    if not np.allclose(pose[3], [0, 0, 0, 1], atol=_RIGID_TOLERANCE):
        return f"expected (0, 0, 0, 1) as last row, got {pose[3].tolist()}"
    rotation = pose[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    determinant = float(np.linalg.det(rotation))
    if error > _RIGID_TOLERANCE or determinant < 0:
        return (
            "expected a rigid matrix (rotation and translation, no scale, shear or mirror), got one whose upper left "
            f"3 x 3 part is off from a rotation by {error:.3g}, determinant {determinant:.3g}"
        )
    return ""


def _matrix(value: Any, where: str) -> np.ndarray:
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected 4 rows of 4 numbers, got {error}") from error
    if problem := pose_problem(matrix):
        raise ValueError(f"{where}: {problem}")
    return matrix


def _lens(fields: dict[str, Any], where: str, intrinsics: np.ndarray, height: int, width: int) -> np.ndarray:
    """Intrinsics [3, 3] in pixels of the scene's frames."""
    lens = np.asarray(intrinsics, np.float64).copy()
    if "fl_x" not in fields:
        return lens
    known = [key for key in ("fl_x", "fl_y", "cx", "cy", "w", "h") if key in fields]
    given = {key: _number(fields[key], f"{where}.{key}") for key in known}
    across, down = width / given.get("w", width), height / given.get("h", height)
    focal = (given["fl_x"], given.get("fl_y", given["fl_x"]))
    if min(*focal, across, down) <= 0:
        raise ValueError(f"{where}: expected positive fl_x, fl_y, w and h, got {given}")
    lens[0, 0], lens[1, 1], lens[0, 1] = focal[0] * across, focal[1] * down, 0
    # Pixel centres are integers: a picture reaches from -0.5, and scales about that border.
    for row, key, scale, size in ((0, "cx", across, "w"), (1, "cy", down, "h")):
        if key in given:
            lens[row, 2] = (given[key] + 0.5) * scale - 0.5
        elif size in given:
            lens[row, 2] = (given[size] * scale - 1) / 2
    return lens


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    return float(value)
