"""Runs an ablation cell by cell, resumable, with a table that is updated after each cell and nested MLflow runs.

```
out/ablation.json       settings of the comparison; MLflow runs
out/cells/              {cell}.json: settings and metrics; {cell}.parquet: one row per held-out world
out/cells.parquet       all finished cells; summary.json and table.md hold medians and ranges over seeds
out/failed.json         cells that failed, with the reason; the next call tries them again
out/data, annotated, latents, adapters    intermediates, shared by cells with equal settings
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

from fourdnex.ablation.cells import Cell, CellRunner
from fourdnex.ablation.spec import FORMER_NAMES, AblationSpec
from fourdnex.ablation.table import markdown, summarize
from fourdnex.datasets.worlds import HELD_OUT_SEEDS
from fourdnex.evaluation import scoring
from fourdnex.evaluation.scoring import METRICS
from fourdnex.io.files import atomic_path, read_json, write_json
from fourdnex.io.renamed import renamed_keys, renamed_recipe, renamed_training
from fourdnex.model.presets import base_digest, get_preset

if TYPE_CHECKING:
    from fourdnex.tracking import TrackingRun

EXPERIMENT = "fourdnex-ablation"
_COMMON_FIELDS = ("steps", "worlds", "held_out", "model")
"""Fields that must be equal for all cells of a folder; seeds and variants may be added."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Settings of a comparison of variants."""

    out: Path
    """Output folder: tables and intermediates. Running again with the same folder resumes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; one training run and one evaluation per variant and seed."""
    steps: int = 480
    """Training steps per run."""
    worlds: int = 256
    """Number of training worlds, the same for all variants."""
    held_out: int = 64
    """Number of held-out worlds for evaluation."""
    model: str = "tiny"
    """Preset or folder of the base model."""
    track: bool = True
    """Log to MLflow: one run for the ablation, with one nested run per cell."""

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
    """Results of the finished cells."""

    cells: pd.DataFrame
    """One row per finished cell: variant, seed, metrics (means over worlds; median of length ratios)."""
    summary: pd.DataFrame
    """One row per variant: median, minimum and maximum over seeds (see `summarize`)."""
    failed: tuple[tuple[str, str], ...]
    """Cells that failed, with the reason."""


def ablate(
    spec: AblationSpec, config: Ablation, *, progress: Callable[[str], None] = lambda line: None
) -> AblationResult:
    """Train and evaluate every variant with every seed, at equal steps and data.

    Cells that finished with the same settings are cached. A cell that fails is recorded with its reason, and the
    remaining cells run. Result files are updated after every cell.

    Raises:
        ValueError: if the folder holds another ablation, or one with other steps, worlds or base.
        TrainingInterrupted: if the process was asked to stop; the next call resumes.
    """
    out = config.out
    state = _open_state(spec, config)
    runner = CellRunner(
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
    with _parent_run(spec, config, state) as parent:
        for number, cell in enumerate(cells, start=1):
            label = f"{number} of {len(cells)}: {cell.variant}, seed {cell.seed}"
            if _cached_metrics(runner, cell) is not None:
                progress(f"{label}: cached")
                continue
            try:
                metrics = _run_cell(runner, cell, parent)
            except (ValueError, RuntimeError, MemoryError) as error:
                failed[cell.name] = f"{type(error).__name__}: {error}"
                progress(f"{label}: failed: {error}")
            else:
                progress(f"{label}: depth AbsRel {metrics['abs_rel']:.4f}, ATE {metrics['ate']:.4f}")
            result = _write_results(runner, cells, failed)
        result = _write_results(runner, cells, failed)
        if parent:
            _log_results(parent, result, out)
    return result


def _run_cell(runner: CellRunner, cell: Cell, parent: TrackingRun | None) -> dict[str, Any]:
    """Run a cell, in a nested MLflow run if there is a parent, and write its metrics."""
    started = time.monotonic()
    with _nested_run(runner, cell, parent) as run:
        metrics = runner.run(cell) | {"seconds": time.monotonic() - started}
        if run:
            run.log_metrics({key: value for key, value in metrics.items() if _is_number(value)})
            run.log_artifact(runner.settings(cell).output / "training", "training")
            run.log_artifact(runner.out / "cells" / f"{cell.name}.parquet")
        plain = {key: value if _is_number(value) or isinstance(value, str) else None for key, value in metrics.items()}
        entry = {"variant": cell.variant, "seed": cell.seed, "settings": _cell_settings(runner, cell), "metrics": plain}
        write_json(_cell_file(runner, cell), entry)
    return metrics


def _cell_file(runner: CellRunner, cell: Cell) -> Path:
    """File with the cell's settings and metrics."""
    return runner.out / "cells" / f"{cell.name}.json"


def _cell_settings(runner: CellRunner, cell: Cell) -> dict[str, Any]:
    """Everything that a cell's result depends on; a cell is cached while this is equal."""
    return {
        "training": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(runner.settings(cell)).items()
            if key not in ("latents", "output")
        },
        "recipe": runner.recipe(cell).choices(),
        "base_digest": base_digest(get_preset(runner.model).location),
        "worlds": runner.worlds,
        "held_out": runner.held_out,
        "metrics": list(METRICS),
        "scoring": scoring.VERSION,
    }


def _cached_metrics(runner: CellRunner, cell: Cell) -> dict[str, Any] | None:
    """Metrics of a cell that finished with the current settings; None otherwise."""
    path = _cell_file(runner, cell)
    if not path.exists():
        return None
    entry = renamed_keys(read_json(path), {"made_with": "settings"}, source=path)
    settings = entry["settings"]
    settings["training"] = renamed_training(settings["training"], source=path)
    settings["recipe"] = renamed_recipe(settings["recipe"], source=path)
    if settings != _cell_settings(runner, cell):
        return None
    return {key: math.nan if value is None else value for key, value in entry["metrics"].items()}


def _write_results(runner: CellRunner, cells: list[Cell], failed: dict[str, str]) -> AblationResult:
    """Write the tables of the cells that have finished so far."""
    done = [(cell, metrics) for cell in cells if (metrics := _cached_metrics(runner, cell)) is not None]
    rows = [{"variant": cell.variant, "seed": cell.seed} | metrics for cell, metrics in done]
    table = pd.DataFrame(rows, columns=None if rows else ["variant", "seed", *METRICS])
    summary = summarize(table.select_dtypes("number").assign(variant=table["variant"]), list(runner.spec.variants))
    with atomic_path(runner.out / "cells.parquet") as path:
        table.to_parquet(path, index=False)
    write_json(runner.out / "summary.json", json.loads(summary.to_json(orient="records")))
    with atomic_path(runner.out / "table.md") as path:
        path.write_text(markdown(summary, runner.spec.baseline) + "\n", encoding="utf-8")
    write_json(runner.out / "failed.json", [{"cell": name, "reason": why} for name, why in failed.items()])
    return AblationResult(cells=table, summary=summary, failed=tuple(failed.items()))


def _open_state(spec: AblationSpec, config: Ablation) -> dict[str, Any]:
    """Create or read `ablation.json`, and check that it belongs to this ablation."""
    path = config.out / "ablation.json"
    state: dict[str, Any] = read_json(path) if path.exists() else {"name": spec.name, "mlflow_runs": {}}
    if FORMER_NAMES.get(state["name"], state["name"]) != spec.name:
        raise ValueError(f"{config.out}: holds the ablation {state['name']!r}, expected {spec.name!r} or a new folder")
    run = {key: value for key, value in asdict(config).items() if key not in ("out", "track")}
    previous = state.get("run", run)
    for name in _COMMON_FIELDS:
        if run[name] != previous[name]:
            raise ValueError(
                f"{name}: expected {previous[name]} as in {config.out}, got {run[name]}; choose a new folder"
            )
    state |= {"name": spec.name, "settings": spec.settings, "variants": spec.variants, "run": run}
    write_json(path, state)
    return state


def _parent_run(spec: AblationSpec, config: Ablation, state: dict[str, Any]) -> Any:
    """MLflow run of the ablation, resumed if this store has one from an earlier call."""
    if not config.track:
        return nullcontext()
    from fourdnex import identity
    from fourdnex.tracking import TrackingRun, tracking_uri

    previous = state["mlflow_runs"].get(tracking_uri())
    params = {"variants": ", ".join(spec.variants)} | {key: str(value) for key, value in state["run"].items()}
    run = TrackingRun.start(
        EXPERIMENT,
        name=spec.name,
        params=params,
        tags=identity.collect(data_md5=None, ablation=spec.name),
        run_id=previous,
    )
    if run.run_id != previous:
        state["mlflow_runs"][tracking_uri()] = run.run_id
        write_json(config.out / "ablation.json", state)
    return run


def _nested_run(runner: CellRunner, cell: Cell, parent: TrackingRun | None) -> Any:
    """MLflow run of a cell, nested in the ablation's run; a null context without a parent."""
    if parent is None:
        return nullcontext()
    from fourdnex.tracking import TrackingRun

    return TrackingRun.start(
        EXPERIMENT,
        name=f"{cell.variant}, seed {cell.seed}",
        params={"variant": cell.variant, "seed": cell.seed, "steps": runner.steps}
        | runner.spec.settings_of(cell.variant),
        parent=parent.run_id,
    )


def _log_results(parent: TrackingRun, result: AblationResult, out: Path) -> None:
    """Log tables and counts to the ablation's MLflow run."""
    for name in ("cells.parquet", "summary.json", "table.md", "failed.json"):
        parent.log_artifact(out / name)
    parent.log_metrics({"cells": len(result.cells), "failed": len(result.failed)})


def _is_number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
