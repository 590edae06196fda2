"""nerfstudio datasets: transforms.json with images and depth, for training radiance fields and Gaussian splats."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.export.output_paths import folder_target, frame_name, write_png
from fourdnex.export.ply import write_ply
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.io.files import write_json
from fourdnex.scene import Scene4D

MAX_POINTS = 500_000
"""Points over all frames for the default stride, for the initialization of Gaussian splats."""

_MILLIMETER = 1e-3  # nerfstudio's default unit of depth images
_MAX_CODE = 65535


def export_nerfstudio(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write transforms.json, images/, depth/ and sparse_pc.ply atomically.

    `transform_matrix` is camera-to-world with OpenGL camera axes (x right, y up, looking along -z), as in nerfstudio.
    The world has z up unless `options.up` is set; `applied_transform` and then `world_scale` map the scene's world to
    it. Pixel centers are at half-integers. `time` is in [0, 1].

    Depth images are 16-bit PNG of z in the camera's frame, 0 where there is none, in units of
    `depth_unit_scale_factor`: 0.001, nerfstudio's default, if that represents all depths with a relative error of at
    most 1e-3, else the finest unit that covers the range, to be passed to nerfstudio as `--depth-unit-scale-factor`.
    The filters of the options apply to depth images and points; the stride applies to the points of sparse_pc.ply only.

    Raises:
        ValueError, FileExistsError: see `Selection` and `folder_target`.
    """
    selection = Selection(scene, options, up="z", max_points=MAX_POINTS)
    unit = _depth_unit(selection)
    owned = [r"(images|depth)/frame_\d{4,}\.png", r"transforms\.json", r"sparse_pc\.ply"]
    with folder_target(folder, owned) as root:
        (root / "images").mkdir()
        (root / "depth").mkdir()
        clouds = []
        for t, image in enumerate(scene.rgb):
            write_png(root / "images" / frame_name(t, ".png"), image)
            codes = np.nan_to_num(np.round(selection.depth(t) / np.float32(unit)), nan=0.0)
            write_png(root / "depth" / frame_name(t, ".png"), np.minimum(codes, _MAX_CODE).astype(np.uint16))
            clouds.append(selection.points(t))
        xyz, rgb = (np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("xyz", "rgb"))
        write_ply(root / "sparse_pc.ply", xyz, rgb)
        write_json(root / "transforms.json", _transforms(selection, unit))


def _transforms(selection: Selection, unit: float) -> dict[str, Any]:
    """Content of transforms.json."""
    scene = selection.scene
    fx, fy, cx, cy = selection.pinhole
    frames = [
        {
            "file_path": Path("images", frame_name(t, ".png")).as_posix(),
            "depth_file_path": Path("depth", frame_name(t, ".png")).as_posix(),
            "transform_matrix": pose.tolist(),
            "time": t / max(scene.num_frames - 1, 1),
        }
        for t, pose in enumerate(selection.opengl_camera_to_world)
    ]
    return {
        "camera_model": "OPENCV",
        "w": scene.width,
        "h": scene.height,
        "fl_x": fx,
        "fl_y": fy,
        "cx": cx + 0.5,
        "cy": cy + 0.5,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "applied_transform": np.hstack([selection.rotation, np.zeros((3, 1))]).tolist(),
        # Not applied_scale: nerfstudio would apply it again to points and depth, but not to cameras.
        "world_scale": selection.options.scale,
        "ply_file_path": "sparse_pc.ply",
        "depth_unit_scale_factor": unit,
        "fps": scene.fps,
        "provenance": json.loads(selection.provenance),
        "frames": frames,
    }


def _depth_unit(selection: Selection) -> float:
    """The unit of depth images, in world units."""
    depths = [selection.depth(t) for t in range(selection.scene.num_frames)]
    near = min(float(np.nanmin(depth, initial=np.inf)) for depth in depths)
    far = max(float(np.nanmax(depth, initial=0.0)) for depth in depths)
    fits = far <= _MILLIMETER * _MAX_CODE and _MILLIMETER / 2 <= 1e-3 * near
    return _MILLIMETER if fits else far / _MAX_CODE
