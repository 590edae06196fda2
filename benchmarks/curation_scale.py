"""Decisions on a large data set: time and memory of `curate` and of its report, with score tables in the real format.

    python -m benchmarks.curation_scale --clips 200000 --shards 800

The tables are synthetic: scores are drawn around those of accepted clips, 1 % of the clips are near-duplicates, videos
have 20 clips each, 2 % of the annotations fail. The scores are not computed again: the no-op run of `score_shard` over
all shards is measured apart. Every measurement is a process of its own, imports included. The contact sheets read
sparse files, which hold black frames.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.reporting import argument_parser, print_table
from fourdnex.curation.fingerprints import NUM_HASHES, SIZE
from fourdnex.curation.score_tables import COLUMNS, score_table_schema
from fourdnex.curation.scores import SCORES, STAGES
from fourdnex.datasets import annotated

TYPICAL = {
    "frames": (49, 0), "brightness": (105, 25), "contrast": (42, 12), "bright_share": (0.02, 0.03),
    "sharpness": (0.9, 0.17), "noise": (2, 1.5), "bar_share": (0, 0.008), "sky_share": (0.05, 0.1),
    "text_share": (0, 0.012), "motion": (4, 2.5), "flow": (1.2, 0.8), "frozen_share": (0, 0.1), "cut": (0.03, 0.05),
    "shake": (0.4, 0.5), "finite_share": (0.75, 0.2), "least_finite_share": (0.55, 0.2),
    "mean_confidence": (0.35, 0.15), "confident_share": (0.35, 0.2), "depth_spread": (8, 5),
    "field_of_view": (62, 12), "dynamic_share": (0.1, 0.1), "warp_error": (4, 2), "flow_error": (0.06, 0.05),
    "depth_error": (0.02, 0.02), "path_length": (0.3, 0.2), "turn": (12, 8), "camera_break": (0.005, 0.008),
    "turn_break": (0.5, 0.7), "curvature": (20, 40),
}  # fmt: skip
"""Score -> mean and standard deviation; negative draws become positive."""
_WORK = {
    "decisions": "report = curate(root / 'scores', root / 'annotated', root / 'curated.parquet', set_rules=rules)",
    "report": "write_report(report, root / 'annotated', root)",
    "scoring nothing": "for shard in shards: assert score_shard(root / 'annotated', shard, root / 'scores').done == 0",
}


def write_tables(root: Path, *, num_clips: int, num_shards: int, seed: int = 0) -> None:
    """Write annotated tables without arrays, and score tables, of `num_shards` shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    assert set(TYPICAL) == set(SCORES), set(TYPICAL) ^ set(SCORES)
    for folder in ("annotated", "scores"):
        (root / folder).mkdir(parents=True)
    bounds = np.linspace(0, num_clips, num_shards + 1).astype(int)
    for shard, (start, end) in enumerate(pairwise(bounds)):
        name, count = f"clips-{shard:04d}", int(end - start)
        names = [f"video-{number // 20:06d}-{number % 20:05d}" for number in range(start, end)]
        digests = [f"{number:064x}" for number in range(start, end)]
        failed = rng.random(count) < 0.02
        annotated_rows: list[dict[str, object]] = [
            {
                "name": clip, "shard": name, "sha256": digest, "annotator": "sfm", "annotator_version": "2",
                "annotator_license": "BSD-3-Clause", "reason": "too little parallax" if fails else "",
                "subset": "videos", "num_frames": 49, "height": 240, "width": 360, "fps": 24.0, "tags": [],
                "caption": f"{('A person', 'A dog', 'A cart')[number % 3]} passes street number {number // 3}.",
                "source": clip[:12], "license": "CC-BY-4.0", "video": clip[:12], "shot": 0, "start": 0.0,
                "source_sha256": f"{number // 20:064x}", "seconds": 1.0,
            }
            for number, clip, digest, fails in zip(range(start, end), names, digests, failed, strict=True)
        ]  # fmt: skip
        pq.write_table(
            pa.Table.from_pylist(annotated_rows, schema=annotated._schema()), root / "annotated" / f"{name}.parquet"
        )
        prints = rng.integers(0, 256, (count, SIZE), dtype=np.uint8)
        copies = np.flatnonzero(rng.random(count) < 0.01)
        copies = copies[copies > 0]
        prints[copies] = prints[copies - 1]
        prints[copies, rng.integers(0, NUM_HASHES * 8, len(copies))] ^= 1
        columns: dict[str, object] = {
            "name": names, "sha256": digests, "annotator": ["sfm"] * count, "annotator_version": ["2"] * count,
            "fingerprint": [row.tobytes() for row in prints], "failure": [""] * count,
        }  # fmt: skip
        columns |= {stage.version_column: [stage.version] * count for stage in STAGES}
        columns |= {score: np.abs(rng.normal(mean, spread, count)) for score, (mean, spread) in TYPICAL.items()}
        table = pa.table({column: columns[column] for column in COLUMNS}, schema=score_table_schema())
        pq.write_table(table.filter(pa.array(~failed)), root / "scores" / f"{name}.parquet")


def write_arrays(root: Path) -> None:
    """Write the arrays that contact sheets read, as sparse files."""
    import pyarrow.parquet as pq

    from fourdnex.datasets.worlds import render_world

    arrays = annotated.clip_arrays(render_world(100_000, num_frames=2))
    for path in sorted((root / "annotated").glob("*.parquet")):
        names = pq.read_table(path, columns=["name"]).column("name").to_pylist()
        _write_repeated(path.with_suffix(".safetensors"), names, arrays)


def _write_repeated(path: Path, names: list[str], arrays: dict[str, np.ndarray]) -> None:
    """Write a sparse safetensors file with RGB and depth of the same shape for every name, all zeros."""
    header, end = {}, 0
    for name in names:
        for key in ("rgb", "depth"):
            array = arrays[key]
            kind = "U8" if array.dtype == np.uint8 else "F32"
            header[f"{name}/{key}"] = {
                "dtype": kind,
                "shape": list(array.shape),
                "data_offsets": [end, end + array.nbytes],
            }
            end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def measure(root: Path, work: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a piece of work in its own process, imports included."""
    lines = [
        "import resource, sys, time",
        "from pathlib import Path",
        "started = time.perf_counter()",
        "from fourdnex.curation import SetRules, curate, score_shard, write_report",
        "root = Path(sys.argv[1])",
        "rules = SetRules(quotas={'human-centric': 0.25}, splits={'train': 0.9, 'val': 0.05, 'test': 0.05})",
        "shards = sorted(path.stem for path in (root / 'annotated').glob('*.parquet'))",
    ]
    if work == "report":
        lines += [_WORK["decisions"], "started = time.perf_counter()"]
    lines += [
        _WORK[work],
        "print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)",
    ]
    output = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(root)], check=True, capture_output=True, text=True
    )
    seconds, memory = output.stdout.split()
    return float(seconds), float(memory)


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--clips", type=int, default=200_000, help="clips (default: 200000)")
    parser.add_argument("--shards", type=int, default=800, help="shards (default: 800)")
    parser.add_argument("--output", type=Path, help="keep the tables in this folder, and use those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.output or Path(temporary)
        if not (root / "scores").is_dir():
            write_tables(root, num_clips=arguments.clips, num_shards=arguments.shards)
            write_arrays(root)
        rows = [(work, *measure(root, work)) for work in _WORK]
    print_table(
        f"Curation of {arguments.clips} clips in {arguments.shards} shards",
        ("work", "seconds", "peak memory, MB"),
        rows,
        notes=["Bars: decisions 5 s and 1,000 MB, report 30 s. The memory of the report includes the decisions."],
        packages=("numpy", "pandas", "pyarrow"),
    )


if __name__ == "__main__":
    main()
