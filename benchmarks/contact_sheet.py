"""Contact sheet of generated held-out worlds: `python -m benchmarks.contact_sheet ADAPTER SHEET.jpg`

One row per world: the input; RGB of the middle and the last frame, true and generated; their points as colors, true and
generated; and the generated point cloud of the middle frame, seen from 20 degrees to the right. The model is given the
input image and the caption only.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import fourdnex
from benchmarks.fixtures import held_out_worlds
from benchmarks.reporting import add_model_option, argument_parser
from fourdnex.clip import Clip
from fourdnex.geometry.cameras import unproject
from fourdnex.rendering.colormaps import colorize_points
from fourdnex.rendering.contact_sheet import contact_sheet
from fourdnex.rendering.trajectories import orbit, scene_pivot
from fourdnex.rendering.views import render_frame
from fourdnex.scene import Scene4D

ZOOM = 2


def main() -> None:
    """Generate the worlds and write the sheet."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("sheet", type=Path, help="image to write")
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=16, help="number of held-out worlds (default: 16)")
    options = parser.parse_args()
    clips = held_out_worlds(options.worlds)
    scenes = fourdnex.generate(
        [clip.rgb[0] for clip in clips],
        model=options.model,
        adapter=options.adapter,
        prompts=[clip.caption for clip in clips],
    )
    panels: list[tuple[np.ndarray, str]] = []
    for clip, scene in zip(clips, scenes, strict=True):
        print(f"{clip.name}: {clip.caption}", flush=True)
        panels += _row(clip, scene)
    images = [
        image.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1) if len(image) == clips[0].height else image
        for image, _ in panels
    ]
    sheet = contact_sheet(images, len(panels) // len(clips), labels=[label for _, label in panels])
    Image.fromarray(sheet).save(options.sheet, quality=85)


def _row(clip: Clip, scene: Scene4D) -> list[tuple[np.ndarray, str]]:
    """Images and labels of one world."""
    middle, last = clip.num_frames // 2, clip.num_frames - 1
    generated = unproject(scene.depth, scene.intrinsics, scene.camera_to_world)
    row = [(clip.rgb[0], "input")]
    for t in (middle, last):
        row += [(clip.rgb[t], f"true, frame {t}"), (scene.rgb[t], f"generated, frame {t}")]
    true_points, points = colorize_points(clip.annotated_pointmaps()), colorize_points(generated)
    for t in (middle, last):
        row += [(true_points[t], f"true points, frame {t}"), (points[t], f"generated, frame {t}")]
    camera = orbit(scene.camera_to_world[middle], scene_pivot(scene), np.array([-20.0]), 8.0)[0]
    return [*row, (render_frame(scene, middle, camera, zoom=ZOOM).image, "20° to the right")]


if __name__ == "__main__":
    main()
