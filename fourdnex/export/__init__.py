"""Export of scenes to the file formats of other programs."""

from fourdnex.export.colmap import export_colmap
from fourdnex.export.formats import EXPORTERS
from fourdnex.export.glb import export_glb
from fourdnex.export.nerfstudio import export_nerfstudio
from fourdnex.export.npz import export_npz
from fourdnex.export.ply import export_ply, write_ply
from fourdnex.export.rerun import export_rerun
from fourdnex.export.selection import ExportOptions, Selection
from fourdnex.export.usd import export_usd

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
