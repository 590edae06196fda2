"""What every annotator is: a video in, the same clip with depth, cameras and confidence out."""

from typing import ClassVar, Protocol

from fourdnex.clip import Clip


class AnnotationError(ValueError):
    """A clip that cannot be annotated; the message is the reason, for a person to read."""


class Annotator(Protocol):
    """Annotates clips one by one; the same clip gives the same annotation."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Raised when the results change: clips annotated by another version are annotated again."""
    license: ClassVar[str]
    """Of the method and its weights; it goes into the lineage."""

    def annotate(self, clip: Clip) -> Clip:
        """The clip with depth, intrinsics, camera_to_world and confidence, `annotator` set to `name`.

        Raises:
            AnnotationError: it cannot be annotated, with the reason.
        """
        ...
