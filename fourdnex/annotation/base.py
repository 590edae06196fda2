"""The interface of annotators: a clip in, the same clip with depth, cameras and confidence out."""

from typing import ClassVar, Protocol

from fourdnex.clip import Clip


class AnnotationError(ValueError):
    """A clip cannot be annotated; the message is the reason that users see."""


class Annotator(Protocol):
    """Annotates one clip at a time, deterministically."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Incremented when results change: clips annotated by another version are annotated again."""
    license: ClassVar[str]
    """License of the method and its weights, recorded in the lineage."""

    def annotate(self, clip: Clip) -> Clip:
        """The clip with depth, intrinsics, camera_to_world and confidence; `annotator` is set to `name`.

        Raises:
            AnnotationError: the clip cannot be annotated; the message is the reason.
        """
        ...
