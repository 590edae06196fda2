"""Maps over items: results, failures, and workers that are killed, with local processes and with Ray."""

import os
from functools import partial
from pathlib import Path

import pytest

from fourdnex.annotation import annotate_shard
from fourdnex.cli import main
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from fourdnex.engine import Failure, map_items
from tests.engine.work import double

ITEMS = ["a", "killed", "b", "bad", "c", "deadly", "d", "e"]


def check(folder: Path, engine: str) -> None:
    found = dict(map_items(partial(double, str(folder)), ITEMS, engine=engine, workers=2))
    assert sorted(found) == sorted(ITEMS), "each item once"
    assert found.pop("bad") == Failure("bad: expected another item")
    assert found.pop("deadly") == Failure("its worker process ended unexpectedly twice: killed, or out of memory")
    assert {item: result[0] for item, result in found.items()} == {item: 2 * item for item in found}
    assert (folder / "killed").exists() and os.getpid() not in {result[1] for result in found.values()}


def test_processes_survive_killed_workers(tmp_path):
    check(tmp_path, "local")


@pytest.mark.slow
def test_ray_survives_killed_workers(tmp_path):
    check(tmp_path, "ray")


def test_one_worker_works_in_this_process(tmp_path):
    found = list(map_items(partial(double, str(tmp_path)), ["a", "bad", "b"]))
    assert [item for item, _ in found] == ["a", "bad", "b"] and isinstance(found[1][1], Failure)
    assert {found[0][1][1], found[2][1][1]} == {os.getpid()}


def test_workers_keep_what_they_have_loaded(tmp_path):
    items = [str(number) for number in range(20)]
    results = dict(map_items(partial(double, str(tmp_path)), items, workers=2))
    assert len({process for _, process in results.values()}) <= 2


@pytest.mark.parametrize(("settings", "message"), [
    ({"engine": "spark"}, "engine: expected one of local, ray, got 'spark'"),
    ({"workers": 0}, "workers: expected at least 1, got 0"),
])  # fmt: skip
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        map_items(str, [], **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three shards of two worlds."""
    folder = tmp_path_factory.mktemp("engine") / "data"
    rows = []
    for shard in range(3):
        clips = [render_world(100_000 + 2 * shard + k, num_frames=5, height=32, width=48) for k in range(2)]
        rows += write_shard(folder, f"worlds-{shard:04d}", clips)
    write_manifest(folder, rows)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Files without the seconds that the table of clips records."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".parquet"}


def test_workers_write_the_same_bytes(data, tmp_path, capsys):
    for workers in ("1", "2"):
        options = ["--data", str(data), "--output", str(tmp_path / workers), "--workers", workers]
        assert main(["annotate", *options]) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2") and len(contents(tmp_path / "1")) == 6
    assert capsys.readouterr().out.count("2 done, 0 cached, 0 failed of 2") == 6


@pytest.mark.slow
def test_ray_writes_the_same_bytes(data, tmp_path):
    shards = [f"worlds-{number:04d}" for number in range(3)]
    for engine in ("local", "ray"):
        work = partial(annotate_shard, data, out_dir=tmp_path / engine)
        results = dict(map_items(work, shards, engine=engine, workers=2))
        assert {shard: result.done for shard, result in results.items()} == dict.fromkeys(shards, 2)
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_a_shard_that_fails_does_not_end_the_others(data, tmp_path, capsys):
    options = ["--data", str(data), "--output", str(tmp_path), "--shards", "worlds-0000", "none", "worlds-0002"]
    assert main(["annotate", *options, "--workers", "2"]) == 2
    assert "1 of 3 shards failed: none: shard: expected one of worlds-0000" in capsys.readouterr().err
    assert {path.name for path in tmp_path.glob("*.parquet")} == {"worlds-0000.parquet", "worlds-0002.parquet"}
