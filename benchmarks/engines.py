"""Engines: annotation and encoding of the same shards with two local processes and with two Ray actors.

The Ray cluster is started once, before the measurements, as it is where many commands use it; its start is printed
apart. Both engines start their workers anew for each run, and load the VAE once per worker. Runs take turns; the table
shows medians, the ratio to local processes, and whether the files have the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.reporting import argument_parser, print_table
from fourdnex.annotation import annotate_shard
from fourdnex.curation import SetRules, curate
from fourdnex.curation.rules import Rules
from fourdnex.curation.score_tables import score_shard
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from fourdnex.engine import Failure, map_items
from fourdnex.latents.encoding import encode_shard

if TYPE_CHECKING:
    from fourdnex.engine import Engine

ENGINES: tuple[Engine, ...] = ("local", "ray")


def main() -> None:
    """Measure both engines and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--shards", type=int, default=16, help="number of shards")
    parser.add_argument("--clips", type=int, default=12, help="clips per shard")
    parser.add_argument("--workers", type=int, default=2, help="number of workers")
    parser.add_argument("--repeats", type=int, default=3, help="runs per engine")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with TemporaryDirectory(prefix="fourdnex-engines-") as temporary:
        folder = Path(temporary)
        shards = [f"worlds-{number:04d}" for number in range(arguments.shards)]
        _prepare(folder, shards, arguments.clips)
        started = time.perf_counter()
        list(map_items(str, ["start"], engine="ray"))
        print(f"start of Ray and of a first actor: {time.perf_counter() - started:.1f} s")
        rows = []
        works: dict[str, Callable[[Path], Callable[[str], Any]]] = {
            "annotate": lambda out: partial(annotate_shard, folder / "data", out_dir=out),
            "encode": lambda out: partial(
                encode_shard, folder / "annotated", curated_path=folder / "curated.parquet", out_dir=out
            ),
        }
        for name, work in works.items():
            seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            contents = []
            for repeat in range(arguments.repeats):
                for engine in ENGINES:
                    out = folder / f"{name}-{engine}-{repeat}"
                    seconds[engine].append(_run(work(out), shards, engine, arguments.workers))
                    contents.append(_contents(out))
            median = {engine: statistics.median(values) for engine, values in seconds.items()}
            same = all(each == contents[0] for each in contents)
            rows.append(
                [name, *(f"{median[engine]:.1f}" for engine in ENGINES), f"{median['ray'] / median['local']:.2f}", same]
            )
    title = f"{arguments.shards} shards of {arguments.clips} clips, {arguments.workers} workers"
    print_table(title, ("work", "local, s", "ray, s", "ratio", "same bytes"), rows, packages=("ray", "torch"))


def _prepare(folder: Path, shards: list[str], clips: int) -> None:
    """Write worlds as a data set, and annotate and accept them."""
    rows = []
    for number, shard in enumerate(shards):
        seeds = range(100_000 + number * clips, 100_000 + (number + 1) * clips)
        rows += write_shard(folder / "data", shard, [render_world(seed) for seed in seeds])
    write_manifest(folder / "data", rows)
    for shard in shards:
        annotate_shard(folder / "data", shard, folder / "annotated")
        score_shard(folder / "annotated", shard, folder / "scores")
    curate(folder / "scores", folder / "annotated", folder / "curated.parquet", Rules(), set_rules=SetRules())


def _run(work: Callable[[str], Any], shards: list[str], engine: Engine, workers: int) -> float:
    """Seconds of the work on all shards."""
    started = time.perf_counter()
    for shard, result in map_items(work, shards, engine=engine, workers=workers):
        if isinstance(result, Failure):
            raise RuntimeError(f"{shard}: {result.reason}")
    return time.perf_counter() - started


def _contents(folder: Path) -> dict[str, str]:
    """Digests of the files by name, without tables, which record durations."""
    files = (path for path in folder.iterdir() if path.suffix == ".safetensors")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
