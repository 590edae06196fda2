"""The data graph: seconds of a run that finds every shard finished, from the clips to the statistics of the latents.

A data set of small procedural worlds is written as many shards under DVC, worked once, and worked again; the second run
of the same assets is measured, in one process and without the start of Dagster.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from benchmarks.reporting import argument_parser, print_table

ASSETS = (
    "source_clips", "base_model", "annotated_clips", "curation_scores", "curated_manifest", "training_latents",
    "latent_statistics",
)  # fmt: skip


def main() -> None:
    """Run the assets twice and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--shards", type=int, default=200, help="number of shards")
    parser.add_argument("--clips", type=int, default=1, help="clips per shard")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="fourdnex-data-graph-") as temporary:
        root = Path(temporary)
        _write_data(root, arguments.shards, arguments.clips)
        os.environ |= {"FOURDNEX_ROOT": str(root), "FOURDNEX_WORKSPACE": str(root / "workspace")}
        from orchestration.definitions import defs

        definitions = defs()
        (root / "dagster").mkdir()
        with dg.DagsterInstance.local_temp(str(root / "dagster")) as instance:
            runs = [_run(definitions, instance) for _ in range(2)]
    rows = [[asset, *(f"{seconds[asset]:.1f}" for seconds in runs)] for asset in ASSETS]
    rows.append(["all", *(f"{sum(seconds.values()):.1f}" for seconds in runs)])
    title = f"Data graph, {arguments.shards} shards of {arguments.clips} clips"
    print_table(title, ("asset", "first run, s", "nothing to do, s"), rows, packages=("dagster",))


def _write_data(root: Path, shards: int, clips: int) -> None:
    """Write the data set and its `data.dvc`."""
    from dvc.repo import Repo

    from fourdnex.datasets.manifest import write_manifest
    from fourdnex.datasets.shards import write_shard
    from fourdnex.datasets.worlds import render_world

    rows = []
    for shard in range(shards):
        seeds = range(100_000 + shard * clips, 100_000 + (shard + 1) * clips)
        worlds = [render_world(seed, height=32, width=48) for seed in seeds]
        rows += write_shard(root / "data", f"worlds-{shard:04d}", worlds)
    write_manifest(root / "data", rows)
    with Repo.init(str(root), no_scm=True) as repo:
        repo.add(str(root / "data"))


def _run(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, float]:
    """Seconds of each asset, one run each, over all shards."""
    from orchestration.partitions import all_shards_tags

    job = definitions.resolve_implicit_global_asset_job_def()
    seconds = {}
    for asset in ASSETS:
        by_shard = asset in ("annotated_clips", "curation_scores", "training_latents")
        started = time.perf_counter()
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset)],
            tags=all_shards_tags(instance) if by_shard else {},
        )
        seconds[asset] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    main()
