"""The export formats by name.

Every exporter takes a scene, the output path and `ExportOptions`, and writes atomically:

| format | output | opened by |
| --- | --- | --- |
| `ply` | a folder with one PLY file per frame | Blender, MeshLab, CloudCompare |
| `rerun` | one .rrd recording | the Rerun viewer |
| `usd` | one .usdc or .usd file | Blender, usdview, Houdini, Omniverse |
| `glb` | a folder with one GLB file per frame | Blender, three.js, web viewers |
| `colmap` | a folder with images and a sparse model | COLMAP, pycolmap, Gaussian splatting trainers |
| `nerfstudio` | a folder with images, depth and transforms.json | nerfstudio |
| `npz` | one .npz file | numpy |
"""

import os
from collections.abc import Callable
from typing import Any

from fourdnex.export.colmap import export_colmap
from fourdnex.export.glb import export_glb
from fourdnex.export.nerfstudio import export_nerfstudio
from fourdnex.export.npz import export_npz
from fourdnex.export.ply import export_ply
from fourdnex.export.rerun import export_rerun
from fourdnex.export.selection import ExportOptions
from fourdnex.export.usd import export_usd
from fourdnex.scene import Scene4D

EXPORTERS: dict[str, Callable[[Scene4D, str | os.PathLike[str], ExportOptions], Any]] = {
    "ply": export_ply,
    "rerun": export_rerun,
    "usd": export_usd,
    "glb": export_glb,
    "colmap": export_colmap,
    "nerfstudio": export_nerfstudio,
    "npz": export_npz,
}
"""Export functions by format name, as on the command line."""
