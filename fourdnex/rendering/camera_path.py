"""CameraPath: poses, intrinsics and scene times of novel views."""

import os
from dataclasses import dataclass, replace

import numpy as np

from fourdnex.io.files import write_json

OPENCV_AXES = "OpenCV: x right, y down, z forward; transform_matrix maps camera to world; pixel centers at integers"
_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraPath:
    """Cameras of a novel-view video, one per view.

    Raises:
        ValueError: wrong shapes, values that are not finite, or a pose that is not rigid; the message names the view.
    """

    camera_to_world: np.ndarray  # [N, 4, 4] float64, OpenCV axes, the scene's world
    intrinsics: np.ndarray  # [N, 3, 3] float64, pixels of the scene's frames
    times: np.ndarray  # [N] float64 in [0, 1]: 0 is the scene's first frame, 1 its last
    fps: float | None = None
    """Views per second; None uses the scene's frame rate."""

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
        if self.fps is not None and not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected a positive number, got {self.fps}")

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, num_frames: int) -> np.ndarray:
        """Frame indices [N] of the views in a scene of `num_frames`: the nearest in time."""
        return np.round(self.times * (num_frames - 1)).astype(int)

    def at_time(self, time: float) -> "CameraPath":
        """The same cameras with the scene frozen at one time in [0, 1]."""
        return replace(self, times=np.full(len(self), time))

    def save(self, path: str | os.PathLike[str], *, height: int, width: int) -> None:
        """Write the path as JSON for `load_path`; `height` and `width` are those of the scene's frames."""
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
        rate = {} if self.fps is None else {"fps": self.fps}
        write_json(path, {"axes": OPENCV_AXES, "w": width, "h": height, **rate, "frames": frames})


def pose_problem(pose: np.ndarray, *, tolerance: float = _RIGID_TOLERANCE) -> str:
    """The reason why a matrix is not a rigid camera-to-world pose; empty if it is one.

    Args:
        tolerance: maximum deviation of an entry of R R^T, or of the last row.
    """
    if pose.shape != (4, 4):
        return f"expected a 4 x 4 matrix, got shape {pose.shape}"
    if not np.isfinite(pose).all():
        return "expected finite numbers, got NaN or infinity"
    if not np.allclose(pose[3], [0, 0, 0, 1], atol=tolerance):
        return f"expected (0, 0, 0, 1) as last row, got {pose[3].tolist()}"
    rotation = pose[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    determinant = float(np.linalg.det(rotation))
    if error > tolerance or determinant < 0:
        return (
            "expected a rigid matrix (rotation and translation without scale, shear or reflection), got one whose "
            f"rotation part deviates from a rotation by {error:.3g}, determinant {determinant:.3g}"
        )
    return ""
