"""Annotation of a shard: finished clips are cached, failed clips are listed, and files are written atomically."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fourdnex.annotation import AnnotationError, ExactAnnotator, annotate_shard
from fourdnex.clip import Clip
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table, write_annotated
from fourdnex.datasets.manifest import read_manifest, write_manifest
from fourdnex.datasets.shards import SourceShard, write_shard
from fourdnex.datasets.versions import data_version, write_data_version
from fourdnex.datasets.worlds import render_world

SHARD = "worlds-0000"
SEEDS = (100_000, 100_001, 100_002)


@pytest.fixture
def data(tmp_path) -> Path:
    """Three worlds; the video of the third shows another world."""
    clips = [render_world(seed, num_frames=5, height=32, width=48) for seed in SEEDS]
    clips[2] = Clip(name=clips[2].name, rgb=clips[0].rgb, subset="worlds")
    write_manifest(tmp_path / "data", write_shard(tmp_path / "data", SHARD, clips))
    return tmp_path / "data"


def test_failed_clips_are_listed_with_the_reason(data, tmp_path):
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert (report.requested, report.done, report.cached) == (3, 2, 0)
    assert report.failed[0][0] == "world-000100002" and "is not world 100002" in report.failed[0][1]
    clips = list(iter_annotated(tmp_path / "out", SHARD))
    assert [clip.name for clip in clips] == ["world-000100000", "world-000100001"]
    world = render_world(SEEDS[1], num_frames=5, height=32, width=48)
    assert np.array_equal(clips[1].depth, world.depth)
    assert np.array_equal(clips[1].dynamic_mask, world.dynamic_mask)
    assert np.array_equal(clips[1].rgb, SourceShard(data, SHARD).read(clips[1].name).rgb)
    assert clips[1].tags == world.tags and clips[1].annotator == "exact" and clips[1].confidence.min() == 1
    table = read_annotated_table(tmp_path / "out", SHARD)
    assert table["reason"].str.len().gt(0).tolist() == [False, False, True]
    names = [f"{SHARD}.{suffix}" for suffix in ("data.json", "parquet", "safetensors")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_an_annotated_shard_records_the_data_version(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FOURDNEX_ROOT", str(tmp_path))
    out = tmp_path / "out"

    def told(place: Path) -> str | None:
        annotate_shard(place, SHARD, out)
        return data_version(out, [SHARD], default="nothing is told")

    assert told(data) is None, "there is no data.dvc"
    for md5 in ("first.dir", "next.dir"):
        (tmp_path / "data.dvc").write_text(f"outs: [{{md5: {md5}, path: data}}]")
        assert told(data) == md5, "although no clip is annotated again"
    assert told(data.rename(tmp_path / "worlds")) is None, "data.dvc names another folder"
    write_data_version(out, "of another version", "first.dir")
    annotate_shard(tmp_path / "worlds", SHARD, out)
    assert data_version(out, [SHARD, "of another version"], default="nothing is told") is None
    assert data_version(out, ["made before"], default="nothing is told") == "nothing is told"


def test_a_second_run_uses_the_cache(data, tmp_path):
    annotate_shard(data, SHARD, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert (report.requested, report.done, report.cached, len(report.failed)) == (3, 0, 2, 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


class Interrupted(ExactAnnotator):
    """Fails like a killed process before its second clip."""

    def annotate(self, clip: Clip) -> Clip:
        if clip.name != "world-000100000":
            raise KeyboardInterrupt
        return super().annotate(clip)


def test_finished_clips_are_cached_after_an_interruption(data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        annotate_shard(data, SHARD, tmp_path / "out", annotator=Interrupted())
    assert not (tmp_path / "out" / f"{SHARD}.parquet").exists()
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert (report.done, report.cached, len(report.failed)) == (1, 1, 1)
    assert len(list(iter_annotated(tmp_path / "out", SHARD))) == 2


class Refusing(ExactAnnotator):
    """A later version that fails for every clip."""

    version = "2"

    def annotate(self, clip: Clip) -> Clip:
        raise AnnotationError("not today")


def test_another_version_of_the_annotator_starts_over(data, tmp_path):
    annotate_shard(data, SHARD, tmp_path / "out")
    report = annotate_shard(data, SHARD, tmp_path / "out", annotator=Refusing())
    assert report.done == report.cached == 0 and {reason for _, reason in report.failed} == {"not today"}
    assert list(iter_annotated(tmp_path / "out", SHARD)) == []


def test_only_a_changed_clip_is_annotated_again(data, tmp_path):
    annotate_shard(data, SHARD, tmp_path / "out")
    clips = [render_world(seed, num_frames=5, height=32, width=48) for seed in SEEDS]
    write_manifest(data, write_shard(data, SHARD, clips))
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert (report.done, report.cached, report.failed) == (1, 2, ())
    assert len(list(iter_annotated(tmp_path / "out", SHARD))) == 3


def test_a_changed_caption_updates_the_table_only(data, tmp_path):
    annotate_shard(data, SHARD, tmp_path / "out")
    rows = read_manifest(data).to_dict("records")
    rows[0] |= {"caption": "a red ball", "tags": ["ball"], "license": "CC0"}
    write_manifest(data, rows)
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert (report.done, report.cached) == (0, 2)
    (clip, _) = iter_annotated(tmp_path / "out", SHARD)
    assert (clip.caption, clip.tags, clip.license) == ("a red ball", ("ball",), "CC0")
    assert np.array_equal(clip.depth, render_world(SEEDS[0], num_frames=5, height=32, width=48).depth)


def test_a_clip_that_contradicts_the_manifest_fails(data, tmp_path):
    rows = read_manifest(data).to_dict("records")
    right = rows[0]["fps"]
    for fps, done in ((0.0, 1), (right, 1)):
        rows[0]["fps"] = fps
        write_manifest(data, rows)
        assert annotate_shard(data, SHARD, tmp_path / "out").done == done
    assert len(list(iter_annotated(tmp_path / "out", SHARD))) == 2


def test_lost_clips_of_a_truncated_shard_fail_and_are_tried_again(data, tmp_path):
    source = SourceShard(data, SHARD)
    whole = source.path.read_bytes()
    source.path.write_bytes(whole[: source._members["world-000100001.mkv"][0] + 10])
    report = annotate_shard(data, SHARD, tmp_path / "out")
    assert report.done == 1 and [name for name, _ in report.failed] == ["world-000100001", "world-000100002"]
    assert "truncated" in report.failed[0][1] and "dvc checkout" in report.failed[0][1]
    source.path.write_bytes(whole)
    assert annotate_shard(data, SHARD, tmp_path / "out").done == 1


def test_arrays_are_written_before_the_table(tmp_path):
    """After an interruption between the two, the next run finds an older table, never one without its arrays."""
    (tmp_path / f"{SHARD}.parquet").mkdir()
    with pytest.raises(OSError):
        write_annotated(tmp_path, SHARD, [], {})
    assert (tmp_path / f"{SHARD}.safetensors").is_file()


def test_errors_name_damaged_arrays(data, tmp_path):
    annotate_shard(data, SHARD, tmp_path / "out")
    path = tmp_path / "out" / f"{SHARD}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"worlds-0000\.safetensors: corrupt"):
        list(iter_annotated(tmp_path / "out", SHARD))


def test_reading_a_shard_without_annotation_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="worlds-0000 is not annotated yet: run `fourdnex annotate`"):
        list(iter_annotated(tmp_path, SHARD))


def test_a_full_disk_leaves_no_partial_files(data, tmp_path):
    arguments = f"{str(data)!r}, {SHARD!r}, {str(tmp_path / 'out')!r}"
    code = f"from fourdnex.annotation import annotate_shard; annotate_shard({arguments})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0 and "File too large" in run.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert annotate_shard(data, SHARD, tmp_path / "out").done == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_missing_write_permission_raises(data, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        annotate_shard(data, SHARD, tmp_path / "out")


def test_a_file_in_place_of_the_folder_raises(data, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OSError):
        annotate_shard(data, SHARD, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "in the way"


def test_a_shard_of_another_data_set_is_not_replaced(data, tmp_path):
    out = tmp_path / "out"
    annotate_shard(data, SHARD, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    world = render_world(100_009, num_frames=5, height=32, width=48)
    write_manifest(tmp_path / "other", write_shard(tmp_path / "other", SHARD, [world]))
    with pytest.raises(ValueError, match=r"expected no worlds-0000 .*, got that of world-000100000 and others"):
        annotate_shard(tmp_path / "other", SHARD, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_renamed_shard_is_refused(data, tmp_path):
    out = tmp_path / "out"
    annotate_shard(data, SHARD, out)
    (out / f"{SHARD}.parquet").rename(out / "new.parquet")
    with pytest.raises(ValueError, match=r"new\.parquet: expected rows of new, got 'worlds-0000': the file has been"):
        read_annotated_table(out, "new")
