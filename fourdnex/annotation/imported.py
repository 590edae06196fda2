"""Geometry that clips of 4DNeX-10M bring with them, kept as their annotation."""

import os
from dataclasses import replace
from typing import ClassVar

from fourdnex.annotation.base import AnnotationError
from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m import LICENSE, read_clip
from fourdnex.geometry.cameras import relative_to_first
from fourdnex.geometry.recovery import recover_cameras


class ImportedAnnotator:
    """Reads the geometry again where a clip's `source` says that it lies, below `root`; the RGB stays the video's."""

    name: ClassVar[str] = "4dnex-10m"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = LICENSE

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root

    def annotate(self, clip: Clip) -> Clip:
        """The clip with its geometry. Where that is point maps, cameras and depth are recovered from them. It has no
        confidence: all known depth counts the same.

        Raises:
            AnnotationError: its points give no cameras.
            ValueError: it is no clip of 4DNeX-10M, or its geometry cannot be read (perhaps not yet).
            FileNotFoundError: there is no 4DNeX-10M at `root`.
        """
        given = read_clip(self.root, clip.source)
        if given.intrinsics is None:
            try:
                found = recover_cameras(given.annotated_pointmaps())
            except ValueError as error:
                raise AnnotationError(f"no cameras fit the points: {error}") from error
            poses = relative_to_first(found.camera_to_world)
            given = replace(given, depth=found.depth, intrinsics=found.intrinsics, camera_to_world=poses)
        known = {key: getattr(given, key) for key in ("depth", "intrinsics", "camera_to_world", "dynamic_mask")}
        return replace(clip, annotator=self.name, **known)
