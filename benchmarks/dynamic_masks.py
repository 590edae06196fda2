"""Dynamic masks against exact truth: `python -m benchmarks.dynamic_masks`

Rendered videos with moving objects (intersection over union with the true mask) and without (share of pixels that are
marked), with true cameras; beside ours, the previous comparison of flow with filled depth.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.dense_depth import rendered_case
from benchmarks.former_stereo import former_dynamic_mask, sweep
from benchmarks.reporting import argument_parser, print_table
from fourdnex.annotation.dense_depth import depth_range, estimate
from fourdnex.annotation.dynamic_mask import dynamic_mask
from fourdnex.optical_flow import luminance


def main() -> None:
    """Print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--videos", type=int, default=6, help="number of videos of each kind (default: 6)")
    arguments = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for moving in (True, False):
        for number in range(arguments.videos):
            case = rendered_case(200 + 2 * number, moving=moving)
            structure, gray = case.structure, luminance(case.rgb)
            start = time.perf_counter()
            ours = dynamic_mask(case.rgb, structure, estimate(case.rgb, structure))
            seconds = time.perf_counter() - start
            cameras = structure.intrinsics, structure.camera_to_world
            filled = sweep(gray.astype(np.float32) / 255, *cameras, depth_range(structure))
            before = former_dynamic_mask(gray, *filled, *(array.astype(np.float32) for array in cameras))
            row: list[object] = [case.name]
            for mask in (ours, before):
                both, either = (mask & case.dynamic_mask).sum(), (mask | case.dynamic_mask).sum()
                row += [float(both / either) if moving else None]
                row += [100 * float(mask[~case.dynamic_mask].mean())]
            rows.append((*row, seconds))
    for name, chosen in (("mean, moving", rows[: arguments.videos]), ("mean, still", rows[arguments.videos :])):
        columns = list(zip(*chosen, strict=True))[1:]
        rows.append((name, *(None if None in column else float(np.mean(column)) for column in columns)))
    columns_text = ("clip", "IoU", "false %", "previous IoU", "previous false %", "seconds with depth")
    print_table("Dynamic masks", columns_text, rows, notes=("False: share of the static pixels that are marked.",))


if __name__ == "__main__":
    main()
