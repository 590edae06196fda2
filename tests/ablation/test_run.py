"""End-to-end ablation on a random base: shared intermediates, resuming, failing cells, nested MLflow runs."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fourdnex.ablation.run import Ablation, ablate
from fourdnex.ablation.spec import AblationSpec
from fourdnex.cli import main
from fourdnex.evaluation.scoring import METRICS
from fourdnex.io.files import read_json, write_json
from fourdnex.latents import encoding
from fourdnex.tracking.client import open_client

pytestmark = pytest.mark.slow

SMALL = {"rank": 1, "alpha": 1.0, "batch_size": 2, "warmup_steps": 1}
SPEC = AblationSpec(
    name="small",
    settings=SMALL,
    variants={
        "fourdnex": {},
        "joint": {"decode": "joint"},
        "reference": {
            "normalization": "frame",
            "statistics_from": "reference",
            "decode": "joint",
            "xyz_init": "pointmap",
        },
    },
)


@pytest.fixture(scope="module")
def config(tmp_path_factory, random_base) -> Ablation:
    out = tmp_path_factory.mktemp("ablation") / "out"
    return Ablation(out=out, seeds=(0,), steps=2, worlds=3, held_out=2, model=str(random_base), track=False)


@pytest.fixture(scope="module")
def result(config):
    return ablate(SPEC, config)


def state_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_every_cell_is_evaluated_and_equal_intermediates_are_shared(config, result):
    assert result.failed == ()
    assert list(result.cells["variant"]) == ["fourdnex", "joint", "reference"]
    assert result.cells[list(set(METRICS) - {"length_ratio"})].notna().all(axis=None)
    default, joint, reference = (row for _, row in result.cells.iterrows())
    assert default["adapter"] == joint["adapter"] != reference["adapter"]  # training does not depend on decoding
    assert default["psnr"] != joint["psnr"]
    assert sorted(path.name for path in (config.out / "latents").iterdir()) == ["clip", "frame"]
    worlds = pd.read_parquet(next((config.out / "cells").glob("fourdnex-*.parquet")))
    assert worlds["abs_rel"].mean() == pytest.approx(default["abs_rel"])
    assert "| reference | 1 |" in (config.out / "table.md").read_text()
    assert [row["variant"] for row in read_json(config.out / "summary.json")] == ["fourdnex", "joint", "reference"]
    assert encoding._load_encoders.cache_info().currsize == 0  # encoders are released before the transformer is loaded


def test_finished_cells_are_cached_and_missing_cells_run(config, result):
    before, cells = state_of(config.out), sorted((config.out / "cells").glob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in cells}
    lines: list[str] = []
    again = ablate(SPEC, config, progress=lines.append)
    assert again.cells.equals(result.cells)
    assert all(line.endswith("cached") for line in lines) and len(lines) == 3
    removed = next(path for path in cells if path.name.startswith("joint"))
    removed.unlink()
    resumed = ablate(SPEC, config)
    assert resumed.cells.drop(columns="seconds").equals(result.cells.drop(columns="seconds"))
    assert state_of(config.out) == before  # the adapter was cached
    assert all(path.stat().st_mtime_ns == written[path] for path in cells if path != removed)


def test_cells_written_under_former_names_are_cached(config, result):
    for path in (config.out / "cells").glob("*.json"):
        entry = read_json(path)
        settings = entry.pop("settings")
        for part in ("training", "recipe"):
            settings[part]["normalisation"] = settings[part].pop("normalization")
            settings[part]["xyz_start"] = {"pointmap": "given"}.get(start := settings[part].pop("xyz_init"), start)
        settings["training"]["pure_noise"] = settings["training"].pop("sigma_one_prob")
        write_json(path, entry | {"made_with": settings})
    lines: list[str] = []
    with pytest.warns(DeprecationWarning, match=r"made_with \(now settings\)"):
        again = ablate(SPEC, config, progress=lines.append)
    assert again.cells.drop(columns="seconds").equals(result.cells.drop(columns="seconds"))
    assert all(line.endswith("cached") for line in lines)


def test_outdated_latent_statistics_are_estimated_again(config, result):
    """Such statistics remain when a process is killed after encoding shards again and before estimating statistics."""
    file = config.out / "latents" / "clip" / "statistics.json"
    right = read_json(file)
    write_json(file, right | {"shards": dict.fromkeys(right["shards"], "older")})
    next((config.out / "cells").glob("fourdnex-*.json")).unlink()
    assert ablate(SPEC, config).failed == ()
    assert read_json(file) == right


def test_failing_cell_is_recorded_and_the_others_run(config, result):
    """A learning rate that makes the loss diverge; the next call tries the cell again."""
    variants = {"fourdnex": {}, "wild": {"learning_rate": 1e30, "warmup_steps": 0}, "joint": {"decode": "joint"}}
    wild = ablate(replace(SPEC, variants=variants), config)
    assert list(wild.cells["variant"]) == ["fourdnex", "joint"]
    ((cell, reason),) = wild.failed
    assert cell.startswith("wild") and "loss: expected a finite number" in reason
    (entry,) = read_json(config.out / "failed.json")
    assert entry == {"cell": cell, "reason": reason}


def test_folder_of_another_ablation_raises(config, result):
    with pytest.raises(ValueError, match="holds the ablation 'small', expected 'other' or a new folder"):
        ablate(replace(SPEC, name="other"), config)


@pytest.mark.parametrize(
    ("field", "expected", "got"), [("steps", 2, 4), ("worlds", 3, 8), ("held_out", 2, 1), ("model", None, "tiny")]
)
def test_changed_settings_in_the_same_folder_raise_and_change_nothing(config, result, field, expected, got):
    before = {path: path.read_bytes() for path in config.out.glob("*.*")}
    with pytest.raises(ValueError, match=f"{field}: expected {expected or config.model} as in {config.out}, got {got}"):
        ablate(SPEC, replace(config, **{field: got}))
    assert {path: path.read_bytes() for path in config.out.glob("*.*")} == before


def test_command_prints_the_table_and_nests_mlflow_runs(config, result, tmp_path, monkeypatch, capsys):
    """One run for the ablation, one nested run per new cell, and the same parent when resumed."""
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    spec = tmp_path / "spec.json"
    variants = {"fourdnex": {}, "joint": {"decode": "joint"}}
    spec.write_text(json.dumps({"name": "small", "settings": SMALL, "variants": variants}))
    arguments = ["ablate", str(spec), "--out", str(config.out), "--steps", "2", "--worlds", "3", "--held-out", "2"]
    arguments += ["--model", config.model]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert "| joint | 1 |" in capsys.readouterr().out
    assert main([*arguments, "--seeds", "0", "1"]) == 0
    assert "| joint | 2 |" in capsys.readouterr().out

    client = open_client(None)
    runs = client.search_runs([client.get_experiment_by_name("fourdnex-ablation").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert set(children) == {"fourdnex, seed 1", "joint, seed 1"}  # cells with seed 0 were cached
    joint = children["joint, seed 1"]
    assert joint.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert joint.data.params["decode"] == "joint"
    cells = pd.read_parquet(config.out / "cells.parquet").set_index(["variant", "seed"])
    assert joint.data.metrics["abs_rel"] == pytest.approx(cells.loc[("joint", 1), "abs_rel"])
    assert parent.info.status == joint.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"table.md", "cells.parquet"}
    assert os.environ.get("MLFLOW_TRACKING_URI") is None

    client.delete_run(parent.info.run_id)
    assert main([*arguments, "--seeds", "0", "1"]) == 0
    found = client.search_runs([client.get_experiment_by_name("fourdnex-ablation").experiment_id])
    assert [run.info.status for run in found if "mlflow.parentRunId" not in run.data.tags] == ["FINISHED"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (1, 1)}, r"seeds: expected at least one, all different, got \(1, 1\)"),
        ({"worlds": 0}, "worlds: expected at least 1, got 0"),
        ({"held_out": 9999}, "held_out: expected 1 to 256, got 9999"),
    ],
)
def test_invalid_settings_raise(config, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)
