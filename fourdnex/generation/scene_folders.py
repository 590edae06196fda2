"""The scene folders of a collection: writing, checking and removing them."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

from fourdnex.extras import is_installed, missing
from fourdnex.generation.collection_records import CollectionImage
from fourdnex.io.files import atomic_dir, read_json, remove_dir, remove_stale_temporaries
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from fourdnex.scene import Scene4D, check_replaceable

LARGE = 10_000
"""Pixels per frame above which a scene folder holds fewer points, and no PLY files."""
MAX_POINTS = 5_000
"""Points per frame in the recording of such a scene."""
_LOG = logging.getLogger(__name__)


def write_scene_folder(scene: Scene4D, folder: str | os.PathLike[str]) -> None:
    """Write a scene with tracks, PLY files, a Rerun recording and a preview, atomically.

    For frames with more than `LARGE` pixels the recording holds `MAX_POINTS` points per frame, and there are no PLY
    files, which would be several times as large as the scene: `fourdnex export` writes them on request.
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
        if is_installed("rerun"):
            quality = 75 if is_large else 90
            export_rerun(scene, temporary / "scene.rrd", ExportOptions(stride=stride), jpeg_quality=quality)
        else:
            _note_missing_rerun()
        Image.fromarray(preview_image(scene)).save(temporary / "preview.png")


@cache
def _note_missing_rerun() -> None:
    """Log, once per process, that scene folders get no Rerun recording."""
    _LOG.info("scene.rrd is not written: %s", missing("rerun", feature="a Rerun recording"))


def is_finished(folder: Path, made_with: dict[str, Any]) -> bool:
    """Whether `folder` holds a scene with this provenance, and with no optional entry besides."""
    from fourdnex.model.memory_settings import INEXACT

    provenance = _provenance(folder)
    optional = {*INEXACT, "geometry_sha256", "geometry_network", "size", "captioner", "resolution"}
    return all(provenance.get(key) == made_with.get(key) for key in {*made_with, *optional})


def _provenance(folder: Path) -> dict[str, Any]:
    """Provenance of the scene in `folder`; empty if there is no scene, or a damaged one."""
    file = folder / "scene.json"
    if not file.is_file():
        return {}
    try:
        content = read_json(file)
        provenance = content.get("provenance", {}) if isinstance(content, dict) else None
        if not isinstance(provenance, dict):
            raise ValueError(f"{file}: expected an object with a provenance, got {content!r:.80}")
        return renamed_keys(provenance, SCENE_KEYS, source=file)
    except ValueError as error:
        _LOG.warning("%s: not a scene", error)
        return {}


def in_the_way(folder: Path) -> str | None:
    """Why no scene may be written to `folder`; None if one may."""
    try:
        check_replaceable(folder)
    except FileExistsError as error:
        return str(error)
    return None


def remove_gone(out: Path, entry: dict[str, Any]) -> None:
    """Remove the scene of an image that is no longer in its collection; any other content stays."""
    folder = out / entry["scene"]
    if folder.resolve().parent != out:
        return
    remove_stale_temporaries(folder)
    if _provenance(folder).get("image") == entry["file"]:
        remove_dir(folder)
        _LOG.info("%s: removed: its image %s is no longer there", entry["scene"], entry["file"])


def remove_outdated(out: Path, image: CollectionImage) -> None:
    """Remove the scene of a former image of the same name, now that the present image fails."""
    folder = out / image.scene
    digest = _provenance(folder).get("image_sha256")
    if folder.resolve().parent == out and digest not in (None, image.made_with["image_sha256"]):
        remove_dir(folder)
        _LOG.info("%s: removed: it was generated from a former version of %s", image.scene, image.file)
