"""Exact annotation of procedural worlds, rendered again from the seed in the clip's name."""

from dataclasses import replace
from typing import ClassVar

from fourdnex.annotation.base import AnnotationError, ClipAnnotator
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world, world_family, world_seed
from fourdnex.metrics.psnr import psnr

MIN_PSNR = 30.0
"""Min PSNR in dB between the video and the rendering: compression leaves at least 38 dB, another world less than 20."""


class ExactAnnotator(ClipAnnotator):
    """Ground truth of a procedural world; the RGB of the clip is kept."""

    name: ClassVar[str] = "exact"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = "Apache-2.0"

    def annotate(self, clip: Clip) -> Clip:
        """The clip with the exact depth, cameras and dynamic mask of its world.

        Raises:
            AnnotationError: the name contains no seed, or the video does not show the world of that seed.
        """
        try:
            seed, family = world_seed(clip.name), world_family(clip.name)
        except ValueError as error:
            raise AnnotationError(f"not a world: {error}") from error
        size = {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width}
        world = render_world(seed, family=family, **size)
        similarity = psnr(clip.rgb, world.rgb)
        if similarity < MIN_PSNR:
            raise AnnotationError(
                f"the video is not world {seed}: expected a PSNR of at least {MIN_PSNR:.0f} dB against its "
                f"rendering, got {similarity:.1f} dB"
            )
        return replace(
            clip,
            annotator=self.name,
            depth=world.depth,
            intrinsics=world.intrinsics,
            camera_to_world=world.camera_to_world,
            confidence=world.confidence,
            dynamic_mask=world.dynamic_mask,
        )
