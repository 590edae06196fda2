"""The run of an ablation: cell after cell, each finished once, with a table that grows and nested MLflow runs.

```
out/ablation.json       what is compared and how; the MLflow runs
out/cells/              {cell}.json, its metrics, and {cell}.parquet, a row a held-out world
out/cells.parquet       all finished cells; summary.json and table.md the medians and spread over seeds
out/failed.json      cells that failed, with the reason; the next call tries them again
out/data, annotated, latents, adapters    what cells are made of, shared where it is equal
```
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fourdnex.ablation.cells import Bench, Cell
from fourdnex.ablation.spec import AblationSpec
from fourdnex.ablation.table import markdown, summarize
from fourdnex.datasets.worlds import HELD_OUT_SEEDS
from fourdnex.evaluation import scoring
from fourdnex.evaluation.benchmark import METRICS
from fourdnex.io.files import atomic_path, read_json, write_json
from fourdnex.model.presets import base_digest, get_preset

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

EXPERIMENT = "fourdnex-ablation"
_EQUAL = ("steps", "worlds", "held_out", "model")
"""What all cells of a folder have in common; seeds and variants may be added."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """At what cost variants are compared."""

    out: Path
    """Folder of the table and all that it is made of; the same call goes on where it stopped."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training run and one evaluation a variant and seed."""
    steps: int = 480
    """Of every training run."""
    worlds: int = 256
    """Training worlds, the same for all."""
    held_out: int = 64
    """Worlds that every variant is measured on; none is trained on."""
    model: str = "tiny"
    """Preset or folder of the base."""
    track: bool = True
    """Log to MLflow: one run for the ablation, one nested in it for every cell."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected at least one, all different, got {self.seeds}")
        for name in ("steps", "worlds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 1 <= self.held_out <= len(HELD_OUT_SEEDS):
            raise ValueError(f"held_out: expected 1 to {len(HELD_OUT_SEEDS)}, got {self.held_out}")


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationResult:
    """What is there when a run ends."""

    cells: pd.DataFrame
    """One row a finished cell: variant, seed, metrics (means over worlds; the median of length ratios)."""
    summary: pd.DataFrame
    """One row a variant: median, lowest and highest over seeds (see `summarize`)."""
    failed: tuple[tuple[str, str], ...]
    """Cell and reason."""


def ablate(
    spec: AblationSpec, config: Ablation, *, progress: Callable[[str], None] = lambda line: None
) -> AblationResult:
    """Train and measure every variant with every seed, at equal steps and data.

    A cell that has finished with the same settings is not made again; one that fails is set aside with its reason, and
    the rest goes on. Files are written after every cell, so the table can be read while it grows.

    Raises:
        ValueError: the folder holds another ablation, or one of other steps, worlds or base.
        TrainingInterrupted: the process was asked to end; the next call goes on.
    """
    out = config.out
    state = _state(spec, config)
    bench = Bench(
        spec=spec,
        out=out,
        steps=config.steps,
        worlds=config.worlds,
        held_out=config.held_out,
        model=config.model,
        progress=progress,
    )
    cells = [Cell(variant=variant, seed=seed) for seed in config.seeds for variant in spec.variants]
    failed: dict[str, str] = {}
    with _parent(spec, config, state) as parent:
        for number, cell in enumerate(cells, start=1):
            told = f"{number} of {len(cells)}: {cell.variant}, seed {cell.seed}"
            if _finished(bench, cell) is not None:
                progress(f"{told}: there already")
                continue
            try:
                metrics = _run(bench, cell, parent)
            except (ValueError, RuntimeError, MemoryError) as error:
                failed[cell.name] = f"{type(error).__name__}: {error}"
                progress(f"{told}: set aside: {error}")
            else:
                progress(f"{told}: depth AbsRel {metrics['abs_rel']:.4f}, ATE {metrics['ate']:.4f}")
            result = _write(bench, cells, failed)
        result = _write(bench, cells, failed)
        if parent:
            _log_table(parent, result, out)
    return result


def _run(bench: Bench, cell: Cell, parent: TrackingRun | None) -> dict[str, Any]:
    """Make a cell, in a nested MLflow run if there is a parent, and keep its metrics."""
    started = time.monotonic()
    with _child(bench, cell, parent) as run:
        metrics = bench.run(cell) | {"seconds": time.monotonic() - started}
        if run:
            run.log_metrics({key: value for key, value in metrics.items() if _is_number(value)})
            run.log_artifact(bench.settings(cell).output / "training", "training")
            run.log_artifact(bench.out / "cells" / f"{cell.name}.parquet")
        plain = {key: value if _is_number(value) or isinstance(value, str) else None for key, value in metrics.items()}
        entry = {"variant": cell.variant, "seed": cell.seed, "made_with": _made_with(bench, cell), "metrics": plain}
        write_json(_file(bench, cell), entry)
    return metrics


def _file(bench: Bench, cell: Cell) -> Path:
    return bench.out / "cells" / f"{cell.name}.json"


def _made_with(bench: Bench, cell: Cell) -> dict[str, Any]:
    """All that a cell depends on: equal values give an equal cell."""
    return {
        "training": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(bench.settings(cell)).items()
            if key not in ("latents", "output")
        },
        "recipe": bench.recipe(cell).choices(),
        "base_digest": base_digest(get_preset(bench.model).location),
        "worlds": bench.worlds,
        "held_out": bench.held_out,
        "metrics": list(METRICS),
        "scoring": scoring.VERSION,
    }


def _finished(bench: Bench, cell: Cell) -> dict[str, Any] | None:
    """The metrics of a cell that has finished with these settings."""
    path = _file(bench, cell)
    if not path.exists() or (entry := read_json(path))["made_with"] != _made_with(bench, cell):
        return None
    return {key: math.nan if value is None else value for key, value in entry["metrics"].items()}


def _write(bench: Bench, cells: list[Cell], failed: dict[str, str]) -> AblationResult:
    """The table as far as it is."""
    done = [(cell, metrics) for cell in cells if (metrics := _finished(bench, cell)) is not None]
    rows = [{"variant": cell.variant, "seed": cell.seed} | metrics for cell, metrics in done]
    table = pd.DataFrame(rows, columns=None if rows else ["variant", "seed", *METRICS])
    summary = summarize(table.select_dtypes("number").assign(variant=table["variant"]), list(bench.spec.variants))
    with atomic_path(bench.out / "cells.parquet") as path:
        table.to_parquet(path, index=False)
    write_json(bench.out / "summary.json", json.loads(summary.to_json(orient="records")))
    with atomic_path(bench.out / "table.md") as path:
        path.write_text(markdown(summary, bench.spec.baseline) + "\n", encoding="utf-8")
    write_json(bench.out / "failed.json", [{"cell": name, "reason": why} for name, why in failed.items()])
    return AblationResult(cells=table, summary=summary, failed=tuple(failed.items()))


def _state(spec: AblationSpec, config: Ablation) -> dict[str, Any]:
    """`ablation.json`, begun or gone on with."""
    path = config.out / "ablation.json"
    state: dict[str, Any] = read_json(path) if path.exists() else {"name": spec.name, "mlflow_runs": {}}
    if state["name"] != spec.name:
        raise ValueError(f"{config.out}: holds the ablation {state['name']!r}, expected {spec.name!r} or a new folder")
    run = {key: value for key, value in asdict(config).items() if key not in ("out", "track")}
    known = state.get("run", run)
    for name in _EQUAL:
        if run[name] != known[name]:
            raise ValueError(f"{name}: expected {known[name]} as in {config.out}, got {run[name]}; or a new folder")
    state |= {"settings": spec.settings, "variants": spec.variants, "run": run}
    write_json(path, state)
    return state


def _parent(spec: AblationSpec, config: Ablation, state: dict[str, Any]) -> Any:
    """The MLflow run of the whole ablation: the one of an earlier call, if this store has it."""
    if not config.track:
        return nullcontext()
    from fourdnex import identity
    from fourdnex.tracking import TrackingRun, tracking_uri

    before = state["mlflow_runs"].get(tracking_uri())
    params = {"variants": ", ".join(spec.variants)} | {key: str(value) for key, value in state["run"].items()}
    run = TrackingRun.start(
        EXPERIMENT,
        name=spec.name,
        params=params,
        tags=identity.collect(data_md5=None, ablation=spec.name),
        run_id=before,
    )
    if run.run_id != before:
        state["mlflow_runs"][tracking_uri()] = run.run_id
        write_json(config.out / "ablation.json", state)
    return run


def _child(bench: Bench, cell: Cell, parent: TrackingRun | None) -> Any:
    if parent is None:
        return nullcontext()
    from fourdnex.tracking import TrackingRun

    return TrackingRun.start(
        EXPERIMENT,
        name=f"{cell.variant}, seed {cell.seed}",
        params={"variant": cell.variant, "seed": cell.seed, "steps": bench.steps}
        | bench.spec.settings_of(cell.variant),
        parent=parent.run_id,
    )


def _log_table(parent: TrackingRun, result: AblationResult, out: Path) -> None:
    for name in ("cells.parquet", "summary.json", "table.md", "failed.json"):
        parent.log_artifact(out / name)
    parent.log_metrics({"cells": len(result.cells), "failed": len(result.failed)})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
