"""Ingestion of 4DNeX-10M: shards, report, resumption, and captions that are not text."""

import shutil

import numpy as np
import pytest

from fourdnex.cli import main
from fourdnex.datasets import ingest
from fourdnex.datasets.fourdnex10m import SUBSETS, iter_clips
from fourdnex.datasets.ingest import ingest_4dnex10m
from fourdnex.datasets.manifest import read_manifest
from fourdnex.datasets.shards import SourceShard
from fourdnex.io.files import read_json
from tests.datasets.fourdnex10m_files import NAMES


@pytest.fixture
def data(written, tmp_path):
    return shutil.copytree(written, tmp_path / "4DNeX-10M" / "data")


def test_all_subsets_become_shards_with_captions(data, tmp_path):
    reports = ingest_4dnex10m(data.parent, tmp_path / "out")
    assert [(each.subset, each.clips, each.frames) for each in reports] == [(subset, 1, 4) for subset in SUBSETS]
    manifest = read_manifest(tmp_path / "out")
    assert manifest["name"].tolist() == list(NAMES.values())
    assert manifest["shard"].tolist() == [f"{subset}-0000" for subset in SUBSETS]
    for clip, (_, row) in zip(iter_clips(data), manifest.iterrows(), strict=True):
        read = SourceShard(tmp_path / "out", row["shard"]).read(clip.name)
        assert read.caption == clip.caption and read.video == f"{clip.subset}-00012"
        assert np.abs(read.rgb.astype(int) - clip.rgb).mean() < 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ingest.json", "manifest.parquet", "shards"]


def test_missing_and_broken_clips_are_named_and_the_rest_goes_on(data, tmp_path, capsys):
    (data / "raw" / "dynamic" / "dynamic_1" / "00012.mp4").unlink()
    next((data / "static" / "static_2").rglob("*.npz")).write_bytes(b"no zip")
    table = data / "caption" / "dynamic_3_with_caption_upload.csv"
    table.write_bytes(b"number,caption\n12,caf\xe9\n13,fine\n")
    assert main(["ingest", "4dnex-10m", str(data.parent), str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    assert "dynamic_1: 0 clips, 0 frames, 0 without caption, 1 without RGB, 0 broken" in output.out
    assert "static_2: 0 clips, 0 frames, 0 without caption, 0 without RGB, 1 broken" in output.out
    assert "dynamic_3: 1 clips, 4 frames, 1 without caption" in output.out
    assert "dynamic_3_with_caption_upload.csv: line 2: expected UTF-8" in output.err
    report = {each["subset"]: each for each in read_json(tmp_path / "out" / "ingest.json")}
    assert report["dynamic_1"]["missing_rgb"][0][0] == "dynamic/dynamic_1/00012/00012_2-5"
    assert len(read_manifest(tmp_path / "out")) == 3


def test_an_interrupted_ingestion_keeps_finished_shards(data, tmp_path, monkeypatch):
    original, written_shards = ingest.write_shard, []

    def interrupted(folder, shard, clips):
        if shard == "dynamic_3-0000":
            raise KeyboardInterrupt
        written_shards.append(shard)
        return original(folder, shard, clips)

    monkeypatch.setattr(ingest, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest_4dnex10m(data, tmp_path / "out")
    monkeypatch.setattr(ingest, "write_shard", lambda *args: written_shards.append(args[1]) or original(*args))
    ingest_4dnex10m(data, tmp_path / "out")
    assert written_shards == [f"{subset}-0000" for subset in SUBSETS], "none twice"
    assert len(read_manifest(tmp_path / "out")) == 5


def test_workers_write_the_same_files(data, tmp_path):
    for workers in (1, 2):
        ingest_4dnex10m(data, tmp_path / str(workers), workers=workers)
    files = [{p.name: p.read_bytes() for p in (tmp_path / k).rglob("*") if p.is_file()} for k in ("1", "2")]
    assert files[0] == files[1] and len(files[0]) == 7


def test_foreign_folders_and_arguments_are_refused(data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="an interrupted ingestion"):
        ingest_4dnex10m(data, tmp_path / "out")
    with pytest.raises(ValueError, match="subsets: expected some of"):
        ingest_4dnex10m(data, tmp_path / "new", subsets=["dynamic_9"])
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        ingest_4dnex10m(data, tmp_path / "new", workers=0)
    shutil.rmtree(data / "static" / "static_1")
    with pytest.raises(FileNotFoundError, match="expected static_1"):
        ingest_4dnex10m(data, tmp_path / "new", subsets=["static_1"])
    assert not (tmp_path / "new").exists()
