"""Annotation with imported geometry: depth and cameras that the clips of 4DNeX-10M come with."""

import os
from dataclasses import replace
from typing import ClassVar

from fourdnex.annotation.base import AnnotationError, ClipAnnotator
from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m import LICENSE, read_clip
from fourdnex.geometry.cameras import relative_to_first
from fourdnex.geometry.recovery import recover_cameras


class ImportedAnnotator(ClipAnnotator):
    """Reads the geometry of a clip from its `source` in the 4DNeX-10M folder `root`; the RGB of the clip is kept."""

    name: ClassVar[str] = "4dnex-10m"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = LICENSE

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root

    def annotate(self, clip: Clip) -> Clip:
        """The clip with its imported geometry. Cameras and depth are recovered where the source has point maps only.

        The clip has no confidence: all valid depth is weighted equally.

        Raises:
            AnnotationError: no cameras fit the point maps.
            ValueError: the clip is not from 4DNeX-10M, or its geometry cannot be read.
            FileNotFoundError: `root` does not contain 4DNeX-10M.
        """
        imported = read_clip(self.root, clip.source)
        if imported.intrinsics is None:
            try:
                recovery = recover_cameras(imported.annotated_pointmaps())
            except ValueError as error:
                raise AnnotationError(f"no cameras fit the point maps: {error}") from error
            poses = relative_to_first(recovery.camera_to_world)
            imported = replace(imported, depth=recovery.depth, intrinsics=recovery.intrinsics, camera_to_world=poses)
        fields = ("depth", "intrinsics", "camera_to_world", "dynamic_mask")
        return replace(clip, annotator=self.name, **{field: getattr(imported, field) for field in fields})
