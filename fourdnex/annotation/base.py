"""The interface of annotators: the clips of a video in, the same clips with depth, cameras and confidence out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

from fourdnex.clip import Clip


class AnnotationError(ValueError):
    """A clip cannot be annotated; the message is the reason that users see."""


class VideoClips(Protocol):
    """The clips of one video in one shard, in temporal order, read one at a time."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all clips of the video in the shard."""
        ...

    def read(self, name: str) -> Clip:
        """One clip, RGB only, at its stored size.

        Raises:
            ValueError: the clip is missing or damaged.
        """
        ...


class Annotator(Protocol):
    """Annotates the clips of one video at a time, deterministically."""

    name: ClassVar[str]
    """Name on the command line and in tables; of a plug-in, also that of its entry point."""
    needs: ClassVar[tuple[str, ...]]
    """Optional modules that it imports, see `fourdnex.extras.PACKAGES`."""

    @property
    def version(self) -> str:
        """Changes when results change: clips annotated by another version are annotated again."""
        ...

    @property
    def license(self) -> str:
        """License of the method and its weights, recorded in the lineage."""
        ...

    def annotate_video(
        self, clips: VideoClips, names: Sequence[str], *, max_pixels: int | None = None
    ) -> Iterator[tuple[str, Clip | ValueError]]:
        """Yield each of `names` with its annotated clip, or with the error that prevented it.

        An annotated clip has depth (NaN where unknown), intrinsics, camera_to_world and confidence (0 where depth is
        unknown); `annotator` is set to `name`. An `AnnotationError` states why the clip cannot be annotated; any other
        ValueError means that the clip could not be read.

        Args:
            clips: all clips of the video in the shard. The annotator may read more of them than it has to annotate,
                for example to estimate one focal length for the video.
            names: the clips to annotate; some of `clips.names`.
            max_pixels: max height times width of an annotated clip, to which larger clips are scaled down. None: no
                limit.
        """
        ...


class ClipAnnotator:
    """Base class of annotators that treat each clip on its own."""

    needs: ClassVar[tuple[str, ...]] = ()

    def annotate(self, clip: Clip) -> Clip:
        """The annotated clip, see `Annotator.annotate_video`.

        Raises:
            AnnotationError: the clip cannot be annotated; the message is the reason.
        """
        raise NotImplementedError

    def annotate_video(
        self, clips: VideoClips, names: Sequence[str], *, max_pixels: int | None = None
    ) -> Iterator[tuple[str, Clip | ValueError]]:
        """See `Annotator.annotate_video`."""
        for name in names:
            try:
                yield name, limit_pixels(self.annotate(clips.read(name)), max_pixels)
            except ValueError as error:
                yield name, error


def limit_pixels(clip: Clip, max_pixels: int | None) -> Clip:
    """The clip, scaled down at its own aspect ratio if a frame has more than `max_pixels` pixels."""
    if max_pixels is None or clip.height * clip.width <= max_pixels:
        return clip
    scale = (max_pixels / (clip.height * clip.width)) ** 0.5
    return clip.resized(max(1, int(clip.height * scale)), max(1, int(clip.width * scale)))
