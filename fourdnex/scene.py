"""Scene4D: a dynamic point cloud with its cameras, the result of generation."""

import os
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.geometry.cameras import grid_points, pixel_rays
from fourdnex.io.depth_codec import decode_depth, encode_depth
from fourdnex.io.files import atomic_dir, check_replaceable_folder, read_json, sha256_file, write_json
from fourdnex.io.lossless_video import read_lossless, write_lossless

if TYPE_CHECKING:
    from fourdnex.tracks import Tracks

SCHEMA_VERSION = 2
"""1 had a fixed number of depth codes and no check sums of single images; it is still read."""

_SCENE, _CAMERAS, _RGB, _DEPTH, _CONFIDENCE = "scene.json", "cameras.json", "rgb.mkv", "depth.mkv", "confidence.mkv"
_ORIGIN, _TRACKS = "origin.mkv", "tracks.safetensors"
_AXES = "OpenCV: x right, y down, z forward; transform_matrix maps camera to world; pixel centers at integers"


class Origin(IntEnum):
    """Where the color and depth of a pixel come from."""

    NONE = 0
    """Nowhere: the pixel is not valid."""
    PHOTOGRAPH = 1
    """The photograph that the scene was made of."""
    MODEL = 2
    """The video model."""
    FILLED = 3
    """Interpolated between pixels around it, or over time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene4D:
    """RGB, depth and one camera a frame; every pixel with depth is a colored point at that time.

    Arrays are converted to the types below. A scene that `fourdnex` makes has the frame of its first camera as world.

    Raises:
        ValueError: a field has the wrong shape or range; the message names it.
    """

    rgb: np.ndarray  # [T, H, W, 3] uint8
    depth: np.ndarray  # [T, H, W] float32, z in the camera's frame; NaN: no point there
    intrinsics: np.ndarray  # [3, 3] float32, pixels
    camera_to_world: np.ndarray  # [T, 4, 4] float32, OpenCV axes
    confidence: np.ndarray | None = None  # [T, H, W] float32 in [0, 1]
    origin: np.ndarray | None = None  # [T, H, W] uint8, values of Origin
    tracks: "Tracks | None" = None
    """Points followed through the frames, see `fourdnex.tracks`."""
    fps: float = 24.0
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the scene comes from: model, adapter, data, commit, run, image. Anything that JSON can hold."""
    name: str = ""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or 0 in self.rgb.shape or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb: expected [T, H, W, 3] uint8, got {self.rgb.shape} {self.rgb.dtype}")
        frames = self.rgb.shape[:3]
        for name, shape in (("depth", frames), ("intrinsics", (3, 3)), ("camera_to_world", (frames[0], 4, 4))):
            self._convert(name, shape)
        if self.confidence is not None:
            self._convert("confidence", frames)
            if not (self.confidence.min() >= 0 and self.confidence.max() <= 1):
                raise ValueError("confidence: expected values in [0, 1]")
        if self.origin is not None:
            self._convert_origin(frames)
        if self.tracks is not None and self.tracks.num_frames != frames[0]:
            raise ValueError(f"tracks: expected {frames[0]} frames, got {self.tracks.num_frames}")
        with np.errstate(invalid="ignore"):
            object.__setattr__(self, "depth", np.where((self.depth > 0) & (self.depth < np.inf), self.depth, np.nan))
        pixel_rays(1, 1, self.intrinsics)  # refuses focal lengths that are not positive
        if not np.isfinite(self.camera_to_world).all():
            raise ValueError("camera_to_world: expected finite values")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected a positive number, got {self.fps}")

    @property
    def num_frames(self) -> int:
        return self.rgb.shape[0]

    @property
    def height(self) -> int:
        return self.rgb.shape[1]

    @property
    def width(self) -> int:
        return self.rgb.shape[2]

    def points(self, t: int, min_confidence: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The point cloud of frame `t`: xyz [N, 3] float32 in the world's frame and rgb [N, 3] uint8.

        In row-major pixel order, without the pixels that have no depth or less confidence than `min_confidence`.

        Raises:
            IndexError: there is no frame `t`.
        """
        valid = np.isfinite(self.depth[t])
        if self.confidence is not None and min_confidence > 0:
            valid &= self.confidence[t] >= min_confidence
        kept = None if valid.all() else np.flatnonzero(valid)
        xyz = grid_points(self.depth[t], self.intrinsics, self.camera_to_world[t], kept)
        rgb = self.rgb[t].reshape(-1, 3)
        return xyz, rgb.copy() if kept is None else rgb.take(kept, axis=0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scene as a folder of standard files, whole or not at all; a scene already there is replaced.

        rgb.mkv (lossless), depth.mkv (16 bit, logarithmic: within 5e-4 of the depth for far / near up to 10^28),
        confidence.mkv and origin.mkv (8 bit), tracks.safetensors, cameras.json (terms of nerfstudio) and scene.json
        (schema, sizes, provenance, SHA-256 of the other files, CRC-32 of every image in them).

        Raises:
            ValueError: the provenance holds something that is not JSON.
            FileExistsError: there is something else than a scene at `path`.
        """
        check_replaceable(path)
        codes, mapping = encode_depth(self.depth)
        videos = {_RGB: self.rgb, _DEPTH: codes}
        if self.confidence is not None:
            videos[_CONFIDENCE] = np.round(self.confidence * 255).astype(np.uint8)
        if self.origin is not None:
            videos[_ORIGIN] = self.origin
        with atomic_dir(path) as folder:
            for name, frames in videos.items():
                write_lossless(folder / name, frames, fps=self.fps)
            write_json(folder / _CAMERAS, self._cameras())
            if self.tracks is not None:
                from fourdnex.tracks.files import write_tracks

                write_tracks(self.tracks, folder / _TRACKS)
            scene = {
                "schema_version": SCHEMA_VERSION,
                "name": self.name,
                "fps": self.fps,
                "num_frames": self.num_frames,
                "height": self.height,
                "width": self.width,
                "depth": mapping,
                "provenance": self.provenance,
                "sha256": {file.name: sha256_file(file) for file in sorted(folder.iterdir())},
                "crc32": {name: [_checksum(frame) for frame in frames] for name, frames in videos.items()},
            }
            try:
                write_json(folder / _SCENE, scene)
            except (TypeError, ValueError) as error:
                raise ValueError(f"provenance: expected what JSON can hold, got {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, frame: int | None = None, tracks: bool = True) -> "Scene4D":
        """Read a folder of `save`, checking every file against its digest.

        Args:
            path: the folder.
            frame: read this one alone, as a scene of one frame without tracks; checked by its check sums instead of
                the digests, which would need all of the videos.
            tracks: whether to read the tracks, if there are any.

        Raises:
            FileNotFoundError: no scene.json at `path`.
            IndexError: there is no such frame.
            ValueError: a newer schema, or a file that is missing, cut or changed; the message names it.
        """
        folder = Path(path)
        if not (folder / _SCENE).is_file():
            raise FileNotFoundError(f"{folder / _SCENE}: no such file; expected a folder written by Scene4D.save")
        scene = read_json(folder / _SCENE)
        version = scene.get("schema_version") if isinstance(scene, dict) else None
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(f"{folder / _SCENE}: expected schema_version 1 to {SCHEMA_VERSION}, got {version!r}")
        if frame is not None and not 0 <= frame < scene.get("num_frames", 0):
            raise IndexError(f"{folder}: expected a frame from 0 to {scene.get('num_frames', 0) - 1}, got {frame}")
        digests = scene.get("sha256", {})
        videos = (_RGB, _DEPTH, *(name for name in (_CONFIDENCE, _ORIGIN) if name in digests))
        with_tracks = tracks and frame is None and _TRACKS in digests
        for name in (_CAMERAS, *(videos if frame is None else ()), *([_TRACKS] if with_tracks else [])):
            _check_digest(folder / name, digests.get(name))
        checksums = scene.get("crc32", {})
        pixels = {name: _read_video(folder / name, frame, checksums.get(name)) for name in videos}
        cameras = read_json(folder / _CAMERAS)
        try:
            intrinsics = [[cameras["fl_x"], 0, cameras["cx"]], [0, cameras["fl_y"], cameras["cy"]], [0, 0, 1]]
            poses = [camera["transform_matrix"] for camera in cameras["frames"]]
            if frame is not None:
                poses = poses[frame : frame + 1]
            depth = decode_depth(pixels[_DEPTH], scene["depth"])
            fps, name, provenance = scene["fps"], scene["name"], scene["provenance"]
        except KeyError as error:
            raise ValueError(f"{folder}: {_SCENE} or {_CAMERAS} lacks the field {error}") from error
        levels = pixels.get(_CONFIDENCE)
        try:
            return cls(
                rgb=pixels[_RGB],
                depth=depth,
                intrinsics=np.array(intrinsics, np.float32),
                camera_to_world=np.array(poses, np.float32),
                confidence=None if levels is None else levels.astype(np.float32) / 255,
                origin=pixels.get(_ORIGIN),
                tracks=_read_tracks(folder / _TRACKS) if with_tracks else None,
                fps=fps,
                provenance=provenance,
                name=name,
            )
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error

    def _convert(self, name: str, shape: tuple[int, ...]) -> None:
        array = np.asarray(getattr(self, name), np.float32)
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
        object.__setattr__(self, name, array)

    def _convert_origin(self, shape: tuple[int, ...]) -> None:
        array = np.asarray(self.origin)
        if array.shape != shape or array.dtype.kind not in "ui" or not np.isin(array, list(Origin)).all():
            expected = f"{shape} integers from 0 to {max(Origin)}"
            raise ValueError(f"origin: expected {expected}, got {array.shape} {array.dtype}")
        object.__setattr__(self, "origin", array.astype(np.uint8))

    def _cameras(self) -> dict[str, Any]:
        k = self.intrinsics.tolist()
        return {
            "camera_model": "PINHOLE",
            "axes": _AXES,
            "w": self.width,
            "h": self.height,
            "fl_x": k[0][0],
            "fl_y": k[1][1],
            "cx": k[0][2],
            "cy": k[1][2],
            "frames": [
                {"file_path": _RGB, "frame": t, "transform_matrix": pose.tolist()}
                for t, pose in enumerate(self.camera_to_world)
            ],
        }


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """A scene takes the place of the whole folder at `path`, so that nothing else may lie there.

    Raises:
        FileExistsError: there is a file, or a folder that is neither empty nor a scene.
    """
    check_replaceable_folder(path, "a scene", marker=_SCENE)


def _checksum(frame: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(frame).data):08x}"


def _read_video(file: Path, frame: int | None, checksums: list[str] | None) -> np.ndarray:
    """All frames, or one with its check sum compared; scenes of earlier versions have none."""
    if not file.is_file():
        raise ValueError(f"{file}: the file is missing")
    pixels = read_lossless(file, frame=frame)
    if frame is not None and checksums is not None and _checksum(pixels[0]) != checksums[frame]:
        raise ValueError(f"{file}: frame {frame} is changed, its CRC-32 is not the one in {_SCENE}")
    return pixels


def _read_tracks(file: Path) -> "Tracks":
    from fourdnex.tracks.files import read_tracks

    return read_tracks(file)


def _check_digest(file: Path, digest: str | None) -> None:
    if not file.is_file():
        raise ValueError(f"{file}: the file is missing")
    if digest is None or sha256_file(file) != digest:
        raise ValueError(f"{file}: cut or changed, its SHA-256 is not the one in {_SCENE}")
