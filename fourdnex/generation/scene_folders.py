"""The folders of a collection's scenes: written, looked at, removed."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from fourdnex.generation.collection_records import CollectionImage
from fourdnex.io.files import atomic_dir, read_json, remove_dir, remove_remains
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from fourdnex.scene import Scene4D, check_replaceable

LARGE = 10_000
"""Pixels of a frame beyond which a scene's folder holds fewer points, and no PLY files."""
MAX_POINTS = 5_000
"""Of a large frame, in the recording."""
_LOG = logging.getLogger(__name__)


def write_scene_folder(scene: Scene4D, folder: str | os.PathLike[str]) -> None:
    """Write a scene with its tracks and all that people open it by: PLY files, a Rerun recording, a preview.

    Whole or not at all. Of frames with more than `LARGE` pixels the recording holds `MAX_POINTS`, and there are no PLY
    files, which would be several times as large as the scene: `fourdnex export` writes them.
    """
    from PIL import Image

    from fourdnex.export import ExportOptions, export_ply, export_rerun
    from fourdnex.motion import with_tracks
    from fourdnex.rendering import preview_image
    from fourdnex.subsampling import subsampling_stride

    with atomic_dir(folder) as temporary:
        with_tracks(scene).save(temporary)
        is_large = scene.height * scene.width > LARGE
        stride = subsampling_stride(scene.height, scene.width, max_pixels=MAX_POINTS) if is_large else 1
        if not is_large:
            export_ply(scene, temporary / "ply")
        export_rerun(scene, temporary / "scene.rrd", ExportOptions(stride=stride), jpeg_quality=75 if is_large else 90)
        Image.fromarray(preview_image(scene)).save(temporary / "preview.png")


def is_finished(folder: Path, made_with: dict[str, Any]) -> bool:
    """Whether the scene in `folder` was made with this, and of what may be left out with nothing else."""
    from fourdnex.model.memory_settings import INEXACT

    provenance = _provenance(folder)
    optional = {*INEXACT, "geometry_sha256", "geometry_network", "size", "captioner", "resolution"}
    return all(provenance.get(key) == made_with.get(key) for key in {*made_with, *optional})


def _provenance(folder: Path) -> dict[str, Any]:
    """Of the scene in `folder`; empty where there is none, or a damaged one."""
    file = folder / "scene.json"
    if not file.is_file():
        return {}
    try:
        return renamed_keys(read_json(file).get("provenance", {}), SCENE_KEYS, source=file)
    except ValueError as error:
        _LOG.warning("%s: no scene", error)
        return {}


def in_the_way(folder: Path) -> str | None:
    """Why no scene may be written to `folder`."""
    try:
        check_replaceable(folder)
    except FileExistsError as error:
        return str(error)
    return None


def remove_gone(out: Path, entry: dict[str, Any]) -> None:
    """Remove the scene of an image that has gone from its collection; what is not that scene stays."""
    folder = out / entry["scene"]
    if folder.resolve().parent != out:
        return
    remove_remains(folder)
    if _provenance(folder).get("image") == entry["file"]:
        remove_dir(folder)
        _LOG.info("%s: removed, as its image %s has gone", entry["scene"], entry["file"])


def remove_outdated(out: Path, image: CollectionImage) -> None:
    """Remove the scene that another image left in the place of one that gives none."""
    folder = out / image.scene
    made_of = _provenance(folder).get("image_sha256")
    if folder.resolve().parent == out and made_of not in (None, image.made_with["image_sha256"]):
        remove_dir(folder)
        _LOG.info("%s: removed, as it was made of another image than %s now is", image.scene, image.file)
