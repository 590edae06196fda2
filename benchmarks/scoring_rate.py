"""Frames per second and core of the stages of scoring, on clips of the working size of large bases.

    python -m benchmarks.scoring_rate --height 288 --width 512

The clip is a rendered video with photographs as textures. OpenCV and the text detector use one thread. CPU time is
reported, so that other load of the machine does not count.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from benchmarks.measuring import time_work
from benchmarks.planted_defects import annotated_clips
from benchmarks.rendered_videos import render_video
from benchmarks.reporting import argument_parser, print_table
from fourdnex.curation.scores import STAGES


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--height", type=int, default=288, help="pixels (default: 288)")
    parser.add_argument("--width", type=int, default=512, help="pixels (default: 512)")
    parser.add_argument("--frames", type=int, default=49, help="frames of the clip (default: 49)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, of which the median counts (default: 3)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    video = render_video(7, num_frames=arguments.frames, height=arguments.height, width=arguments.width)
    (clip,) = annotated_clips(video, num_frames=arguments.frames)
    clip = replace(clip, rgb=np.ascontiguousarray(clip.rgb))
    rows: list[tuple[object, ...]] = []
    total = 0.0
    for stage in STAGES:
        if not stage.is_available:
            continue
        seconds = time_work(partial(stage.compute, clip), repeats=arguments.repeats, warmup=1).cpu
        total += seconds if stage.name != "geometry" else 0
        rows.append((stage.name, 1000 * seconds, arguments.frames / seconds))
    rows.append(("image, text and motion", 1000 * total, arguments.frames / total))
    print_table(
        f"Scoring of a clip of {arguments.frames} frames of {arguments.height}x{arguments.width}",
        ("stage", "CPU ms per clip", "frames per CPU second"),
        rows,
        notes=["Bar: 60 frames a second and core for image, text and motion together."],
        packages=("numpy", "opencv-python-headless", "rapidocr"),
    )


if __name__ == "__main__":
    main()
