"""Images of other aspect ratios, whole or cropped to the base's: `python -m benchmarks.aspect_ratios ADAPTER`

Held-out worlds are rendered at each ratio, with the same focal length relative to the diagonal. Metrics of cropped
images cover only the part that remains: they measure the quality of the pixels, not the loss of the others.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.reporting import argument_parser, print_table
from fourdnex.annotation.depth_network import DepthNetwork
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, NUM_FRAMES
from fourdnex.datasets.worlds.raycast import cast
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.evaluation.scoring import METRICS, score
from fourdnex.generation.pointmap_files import estimated_first_pointmap
from fourdnex.model.adapter_files import Adapter
from fourdnex.model.base import Base
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.presets import Preset
from fourdnex.model.sizes import Size, fit_image

IMAGE_SIZES = ((128, 192), (192, 128), (192, 192), (192, 256), (128, 384))
BATCH = 8


def main() -> None:
    """Generate at every ratio and print one row per ratio and kind of fit."""
    parser = argument_parser(__doc__)
    parser.add_argument("adapter", type=Path, help="adapter folder")
    parser.add_argument("--worlds", type=int, default=24, help="number of held-out worlds per ratio (default: 24)")
    options = parser.parse_args()
    pipeline, preset = load_pipeline("tiny", options.adapter)
    location = Base.resolve("tiny").depth_network_for(Adapter.read(options.adapter).info)
    network = None if location is None else DepthNetwork(location)
    rows = []
    for shape in IMAGE_SIZES:
        worlds = [_world(seed, *shape) for seed in HELD_OUT_SEEDS[: options.worlds]]
        kinds: list[tuple[str, Size]] = [("whole", "image")]
        if 2 * shape[1] != 3 * shape[0]:
            kinds.append(("cropped", "base"))
        for kind, size in kinds:
            fit = fit_image(shape, (preset.height, preset.width), size=size)
            clips = [world.resized(fit.height, fit.width, ratio=fit.ratio) for world in worlds]
            share = np.prod(fit.crop_size) / np.prod(shape)
            means = _scores(pipeline, preset, clips, network)
            columns = [means[name] for name in ("abs_rel", "chamfer", "ate", "length_ratio", "psnr")]
            rows.append([f"{shape[1]}:{shape[0]}", kind, f"{fit.height}x{fit.width}", f"{share:.0%}", *columns])
    print_table(
        f"Aspect ratios, {options.worlds} held-out worlds each",
        [
            "width:height",
            "image",
            "generated size",
            "share of the image",
            "depth AbsRel",
            "Chamfer, half extents",
            "ATE, m",
            "length ratio",
            "RGB PSNR, dB",
        ],
        rows,
    )


def _world(seed: int, height: int, width: int) -> Clip:
    """A held-out world at another size, with the focal length relative to the diagonal that it has at 3:2."""
    world = sample_world(seed)
    focal = world.camera.focal * (np.hypot(height, width) / width) / (np.hypot(2, 3) / 3)
    frames = cast(
        replace(world, camera=replace(world.camera, focal=focal)), num_frames=NUM_FRAMES, height=height, width=width
    )
    return Clip(
        name=f"world-{seed}",
        rgb=frames.rgb,
        caption=world.caption,
        annotator="exact",
        depth=frames.depth,
        intrinsics=frames.intrinsics,
        camera_to_world=frames.camera_to_world,
        confidence=frames.confidence,
        dynamic_mask=frames.dynamic_mask,
    )


def _scores(pipeline: SixDPipeline, preset: Preset, clips: list[Clip], network: DepthNetwork | None) -> pd.Series:
    """Means of the evaluation metrics over worlds; the median for the length ratio."""
    rows = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        points = None
        if network is not None:
            points = np.stack(
                [
                    estimated_first_pointmap(network, clip.rgb[0], name=clip.name, pixel_aspect=clip.pixel_aspect)
                    for clip in part
                ]
            )
        video = pipeline.generate(
            np.stack([clip.rgb[0] for clip in part]),
            [clip.caption for clip in part],
            num_frames=NUM_FRAMES,
            seeds=[start + k for k in range(len(part))],
            sampling=preset.sampling,
            first_pointmaps=points,
        )
        for k, clip in enumerate(part):
            xyz = denormalize_to_world(video.xyz[k], pipeline.adapter_info, None if points is None else points[k])
            rows.append(score(clip, video.rgb[k], xyz))
    table = pd.DataFrame(rows)
    means = table[list(METRICS)].mean()
    means["length_ratio"] = table["length_ratio"].median()
    return means


if __name__ == "__main__":
    main()
