"""Depth of a depth network in rendered videos, aligned with structure from motion, against the exact depth.

    python -m benchmarks.depth_annotation --videos 6

Rows: dense depth of `sfm`; the network's depth aligned with the points of structure from motion; and the same corrected
by dense depth, which is what the annotator `depth` gives. All in the unit of the reconstruction, compared with the
exact depth by one scale per clip, the median ratio over the pixels that `sfm` knows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from scipy.stats import spearmanr

from benchmarks.rendered_videos import render_video
from benchmarks.reporting import argument_parser, print_table
from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.depth_alignment import align_depth, refine
from fourdnex.annotation.depth_network import DepthNetwork
from fourdnex.annotation.sfm import SfmAnnotator
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.clip import Clip

NUM_FRAMES = 17
MOTIONS = ("sideways", "orbit")
MIN_CONFIDENCE = 0.3


class _Recorder(SfmAnnotator):
    """`sfm`, which records what its depth is estimated from."""

    def estimate(self, rgb, structure):  # type: ignore[no-untyped-def]
        """See `SfmAnnotator.estimate`."""
        self.rgb, self.structure = rgb, structure
        return super().estimate(rgb, structure)


class _OneClip:
    """A video of one clip."""

    def __init__(self, clip: Clip) -> None:
        self.names, self._clip = (clip.name,), clip

    def read(self, name: str) -> Clip:
        """The clip."""
        return self._clip


def main() -> None:
    """Annotate rendered videos and print a table of errors."""
    parser = argument_parser(__doc__)
    parser.add_argument("--videos", type=int, default=6, help="number of videos of one clip")
    parser.add_argument("--first-seed", type=int, default=300, help="seed of the first video")
    parser.add_argument("--depth-network", default="tiny", help="depth network, as of `fourdnex annotate`")
    parser.add_argument("--moving", action="store_true", help="two objects move in each video")
    arguments = parser.parse_args()
    network = DepthNetwork(arguments.depth_network)
    found: dict[str, list[list[float]]] = {}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.videos):
        for title, errors in _measure(seed, network, moving=arguments.moving):
            found.setdefault(title, []).append(errors)
    header = ["", "clips", "known", "AbsRel", "AbsRel where `sfm` is unknown", "AbsRel of moving objects"]
    header += [f"AbsRel at confidence > {MIN_CONFIDENCE}", "share of pixels", "rank correlation"]
    rows = [
        [title, str(len(errors)), *(f"{value:.3f}" for value in np.nanmean(errors, axis=0))]
        for title, errors in found.items()
    ]
    print_table(f"Depth of {NUM_FRAMES} frames of 240x360 in {arguments.videos} rendered videos", header, rows)


def _measure(seed: int, network: DepthNetwork, *, moving: bool) -> Iterator[tuple[str, list[float]]]:
    """Errors of one video by method; none if its cameras or depth are refused, with the reason on stderr."""
    video = render_video(seed, num_frames=NUM_FRAMES, motion=MOTIONS[seed % 2], height=240, width=360, moving=moving)
    annotator, clips = _Recorder(), _OneClip(Clip(name="clip", rgb=video.rgb))
    ((_, stereo),) = annotator.annotate_video(clips, clips.names)
    if isinstance(stereo, ValueError):
        print(f"video {seed}: {stereo}", file=sys.stderr)
        return
    structure: Structure = annotator.structure
    truth, mask = video.truth(range(NUM_FRAMES), structure.intrinsics, stereo.height, stereo.width)
    assert stereo.depth is not None and stereo.confidence is not None
    unit = float(np.nanmedian((truth / stereo.depth)[stereo.confidence > 0]))
    unknown = ~np.isfinite(stereo.depth)
    depth = np.stack([network.depth(frame)[0] for frame in annotator.rgb])
    try:
        aligned = align_depth(depth, structure, relative=network.is_relative)
    except AnnotationError as error:
        print(f"video {seed}: {error}", file=sys.stderr)
        return
    results = {
        "sfm": (stereo.depth, stereo.confidence),
        "network, aligned with points": (aligned, np.ones_like(aligned)),
        "and corrected by dense depth (`depth`)": refine(aligned, stereo.depth, stereo.confidence),
    }
    for title, (found, confidence) in results.items():
        known = np.isfinite(found) & np.isfinite(truth)
        error = np.abs(found * unit / truth - 1)
        sure = known & (confidence > MIN_CONFIDENCE)
        varies = np.ptp(confidence[known]) > 0
        parts = (known, known & unknown & ~mask, known & mask, sure)
        means = [float(error[part].mean()) if part.any() else float("nan") for part in parts]
        rank = float(spearmanr(confidence[known][::17], error[known][::17])[0]) if varies else float("nan")
        yield title, [float(known.mean()), *means, float(sure.mean()), rank]


if __name__ == "__main__":
    main()
