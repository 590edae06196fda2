"""Scenes as files that other programs open."""

from fourdnex.export.ply import export_ply, write_ply
from fourdnex.export.rerun import export_rerun

__all__ = ["export_ply", "export_rerun", "write_ply"]
