"""Annotation of real videos: cameras by structure from motion, depth by a depth network that is aligned with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from fourdnex.annotation.depth_alignment import align_depth, refine
from fourdnex.annotation.depth_network import DepthNetwork, network_identity
from fourdnex.annotation.sfm import DepthAndMask, SfmAnnotator
from fourdnex.annotation.structure_from_motion import Structure


class VideoDepthAnnotator(SfmAnnotator):
    """Annotates videos like `SfmAnnotator`, with depth of a network in all pixels, moving objects included.

    Each frame's depth is aligned with the points of structure from motion, and then corrected by the dense depth of
    stereo where that is known nearby. The confidence is how well both agree there, see `depth_alignment`. A clip whose
    cameras cannot be reconstructed fails.
    """

    name: ClassVar[str] = "depth"
    version: str = "1"
    license: ClassVar[str] = f"{SfmAnnotator.license}, the depth network's own"

    def __init__(self, *, depth_network: str | os.PathLike[str] = "tiny") -> None:
        """Use a network as `DepthNetwork` accepts it: "tiny", a folder, a hub id or an ONNX file."""
        self._source, self._network = depth_network, DepthNetwork(depth_network)
        self.version = f"{self.version}-{SfmAnnotator.version}-{network_identity(depth_network)}"

    def __reduce__(self) -> tuple[Callable[[], VideoDepthAnnotator], tuple[()]]:
        """For worker processes: each loads the network itself."""
        return partial(VideoDepthAnnotator, depth_network=self._source), ()

    def estimate(self, rgb: np.ndarray, structure: Structure) -> DepthAndMask:
        """See `SfmAnnotator.estimate`."""
        stereo = super().estimate(rgb, structure)
        depth = np.stack([self._network.depth(frame)[0] for frame in rgb])
        aligned = align_depth(depth, structure, relative=self._network.is_relative)
        refined, confidence = refine(aligned, stereo.depth, stereo.confidence)
        return DepthAndMask(refined, confidence, stereo.dynamic_mask)
