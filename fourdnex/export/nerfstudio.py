"""nerfstudio data sets: transforms.json with images and depth, to train radiance fields and Gaussian splats from."""

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
"""Of all frames, where no stride is asked for: what a trainer of splats starts from."""

_MILLIMETER = 1e-3  # what nerfstudio takes depth images to be in, unless told
_MAX_CODE = 65535


def export_nerfstudio(scene: Scene4D, folder: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write transforms.json, images/, depth/ and sparse_pc.ply, whole or not at all.

    `transform_matrix` maps the camera to the world in OpenGL's axes of a camera (x right, y up, looking along -z), as
    nerfstudio has it; the world has z up unless the options name another axis, and `applied_transform` and then
    `world_scale` say how it came from the scene's. Pixel centers lie at halves. `time` runs from 0 to 1.

    Depth images are 16-bit PNG, z in the camera's frame, 0 where there is none, in units of
    `depth_unit_scale_factor`: 0.001 (nerfstudio's default) where that holds all depths to 1e-3, else the finest that
    holds them; then pass it on with `--depth-unit-scale-factor`. The options' filters leave out depth pixels as they
    leave out points; the stride holds for the points of sparse_pc.ply alone.

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
        # Not as applied_scale: nerfstudio multiplies points and depth by that once more, and cameras not.
        "world_scale": selection.options.scale,
        "ply_file_path": "sparse_pc.ply",
        "depth_unit_scale_factor": unit,
        "fps": scene.fps,
        "provenance": json.loads(selection.provenance),
        "frames": frames,
    }


def _depth_unit(selection: Selection) -> float:
    depths = [selection.depth(t) for t in range(selection.scene.num_frames)]
    near = min(float(np.nanmin(depth, initial=np.inf)) for depth in depths)
    far = max(float(np.nanmax(depth, initial=0.0)) for depth in depths)
    fits = far <= _MILLIMETER * _MAX_CODE and _MILLIMETER / 2 <= 1e-3 * near
    return _MILLIMETER if fits else far / _MAX_CODE
