"""An ablation, whole, on a base of random weights: shared parts, resuming, cells that fail, nested MLflow runs."""

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
        "ours": {},
        "joint": {"decode": "joint"},
        "public": {"normalization": "frame", "statistics_from": "reference", "decode": "joint", "xyz_init": "pointmap"},
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


def test_every_cell_is_measured_and_what_is_equal_is_shared(config, result):
    assert result.failed == ()
    assert list(result.cells["variant"]) == ["ours", "joint", "public"]
    assert result.cells[list(set(METRICS) - {"length_ratio"})].notna().all(axis=None)
    ours, joint, public = (row for _, row in result.cells.iterrows())
    assert ours["adapter"] == joint["adapter"] != public["adapter"]  # decoding is no matter of training
    assert ours["psnr"] != joint["psnr"]
    assert sorted(path.name for path in (config.out / "latents").iterdir()) == ["clip", "frame"]
    worlds = pd.read_parquet(next((config.out / "cells").glob("ours-*.parquet")))
    assert worlds["abs_rel"].mean() == pytest.approx(ours["abs_rel"])
    assert "| public | 1 |" in (config.out / "table.md").read_text()
    assert [row["variant"] for row in read_json(config.out / "summary.json")] == ["ours", "joint", "public"]
    assert encoding._encoders.cache_info().currsize == 0  # they would stand beside the transformer


def test_finished_cells_are_not_made_again_and_missing_ones_are(config, result):
    before, cells = state_of(config.out), sorted((config.out / "cells").glob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in cells}
    lines: list[str] = []
    again = ablate(SPEC, config, progress=lines.append)
    assert again.cells.equals(result.cells)
    assert all(line.endswith("there already") for line in lines) and len(lines) == 3
    gone = next(path for path in cells if path.name.startswith("joint"))
    gone.unlink()
    resumed = ablate(SPEC, config)
    assert resumed.cells.drop(columns="seconds").equals(result.cells.drop(columns="seconds"))
    assert state_of(config.out) == before  # the adapter was there
    assert all(path.stat().st_mtime_ns == written[path] for path in cells if path != gone)


def test_statistics_older_than_their_shards_are_estimated_again(config, result):
    """As a process leaves them that is killed between the last shard that it encodes again and their estimation."""
    file = config.out / "latents" / "clip" / "statistics.json"
    right = read_json(file)
    write_json(file, right | {"shards": dict.fromkeys(right["shards"], "older")})
    next((config.out / "cells").glob("ours-*.json")).unlink()
    assert ablate(SPEC, config).failed == ()
    assert read_json(file) == right


def test_a_cell_that_fails_is_set_aside_and_the_rest_goes_on(config, result):
    """A rate that drives the weights out of range; the next call tries again."""
    variants = {"ours": {}, "wild": {"learning_rate": 1e30, "warmup_steps": 0}, "joint": {"decode": "joint"}}
    wild = ablate(replace(SPEC, variants=variants), config)
    assert list(wild.cells["variant"]) == ["ours", "joint"]
    ((cell, reason),) = wild.failed
    assert cell.startswith("wild") and "loss: expected a finite number" in reason
    (entry,) = read_json(config.out / "failed.json")
    assert entry == {"cell": cell, "reason": reason}


def test_another_ablation_in_the_same_folder_is_refused(config, result):
    with pytest.raises(ValueError, match="holds the ablation 'small', expected 'other' or a new folder"):
        ablate(replace(SPEC, name="other"), config)


@pytest.mark.parametrize(
    ("field", "expected", "got"), [("steps", 2, 4), ("worlds", 3, 8), ("held_out", 2, 1), ("model", None, "tiny")]
)
def test_other_numbers_in_the_same_folder_are_refused_and_nothing_is_touched(config, result, field, expected, got):
    before = {path: path.read_bytes() for path in config.out.glob("*.*")}
    with pytest.raises(ValueError, match=f"{field}: expected {expected or config.model} as in {config.out}, got {got}"):
        ablate(SPEC, replace(config, **{field: got}))
    assert {path: path.read_bytes() for path in config.out.glob("*.*")} == before


def test_the_command_prints_the_table_and_nests_its_runs(config, result, tmp_path, monkeypatch, capsys):
    """A run for the ablation, one in it for every new cell, and the same parent when it goes on."""
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    spec = tmp_path / "spec.json"
    variants = {"ours": {}, "joint": {"decode": "joint"}}
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
    assert set(children) == {"ours, seed 1", "joint, seed 1"}  # those of seed 0 were there before
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
def test_wrong_numbers_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **changes)
