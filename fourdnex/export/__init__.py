"""Scenes as files that other programs open."""

import os
from collections.abc import Callable
from typing import Any

from fourdnex.export.colmap import export_colmap
from fourdnex.export.glb import export_glb
from fourdnex.export.nerfstudio import export_nerfstudio
from fourdnex.export.npz import export_npz
from fourdnex.export.ply import export_ply, write_ply
from fourdnex.export.rerun import export_rerun
from fourdnex.export.selection import ExportOptions, Selection
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
"""Every format by its name on the command line."""

__all__ = [
    "EXPORTERS",
    "ExportOptions",
    "Selection",
    "export_colmap",
    "export_glb",
    "export_nerfstudio",
    "export_npz",
    "export_ply",
    "export_rerun",
    "export_usd",
    "write_ply",
]
