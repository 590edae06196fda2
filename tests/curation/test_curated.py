"""Score tables, the table of accepted and rejected clips, and the contact sheet."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fourdnex.annotation import annotate_shard
from fourdnex.clip import Clip
from fourdnex.curation import Rules, curate, rejection_reasons, score_clip, score_shard, thumbnails
from fourdnex.datasets.annotated import clip_arrays, clip_row, save_arrays, write_annotated
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world

SHARD = "worlds-0000"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three annotated and scored worlds; the annotation of the third fails, because its video shows another world."""
    root = tmp_path_factory.mktemp("curation")
    worlds = [render_world(seed) for seed in (100_000, 100_001, 100_002)]
    worlds[2] = Clip(name=worlds[2].name, rgb=worlds[0].rgb, subset="worlds")
    write_manifest(root / "data", write_shard(root / "data", SHARD, worlds))
    annotate_shard(root / "data", SHARD, root / "annotated")
    report = score_shard(root / "annotated", SHARD, root / "scores")
    assert (report.requested, report.done, report.cached, report.failed) == (2, 2, 0, ())
    return root


def test_default_rules_accept_worlds():
    accepted = [not rejection_reasons(score_clip(render_world(seed))) for seed in range(100_100, 100_110)]
    assert sum(accepted) >= 9


def test_every_violated_rule_gives_a_reason():
    scores = replace(score_clip(render_world(100_003)), mean_confidence=0.05, brightness=240.0, camera_break=0.5)
    assert rejection_reasons(scores) == (
        "brightness 240.00 is above 210.00",
        "mean confidence 0.05 is below 0.08",
        "discontinuity of the camera path 0.50 is above 0.03",
    )


def test_disabled_rules_are_ignored_and_nan_scores_reject():
    scores = replace(score_clip(render_world(100_003)), brightness=240.0)
    assert rejection_reasons(scores, Rules(max_brightness=None)) == ()
    unknown = rejection_reasons(replace(scores, brightness=float("nan")), Rules(min_brightness=None))
    assert unknown == ("brightness is unknown",)


def test_thresholds_must_be_finite():
    with pytest.raises(ValueError, match="min_motion: expected a finite number or None, got nan"):
        Rules(min_motion=float("nan"))


def test_table_lists_accepted_and_rejected_clips_with_reasons(folders):
    report = curate(folders / "scores", folders / "annotated", folders / "curated.parquet")
    assert (report.accepted, report.rejected) == (2, 1)
    assert report.table["accepted"].tolist() == [True, True, False]
    reason = report.table["reasons"][2]
    assert len(reason) == 1 and reason[0].startswith("not annotated: the video is not world 100002")
    written = pd.read_parquet(folders / "curated.parquet")
    assert written["name"].tolist() == report.table["name"].tolist() and written["shard"].eq(SHARD).all()
    assert written["mean_confidence"].tolist()[:2] == [1, 1] and np.isnan(written["mean_confidence"][2])


def test_curation_is_deterministic(folders, tmp_path):
    for name in ("first", "second"):
        curate(folders / "scores", folders / "annotated", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_stricter_rules_reject_more_clips(folders, tmp_path):
    report = curate(folders / "scores", folders / "annotated", tmp_path / "curated.parquet", Rules(min_motion=1000.0))
    assert report.accepted == 0 and "motion" in report.table["reasons"][0][0]


def test_second_run_reuses_cached_scores(folders):
    before = (folders / "scores" / f"{SHARD}.parquet").stat().st_mtime_ns
    report = score_shard(folders / "annotated", SHARD, folders / "scores")
    assert (report.requested, report.done, report.cached) == (2, 0, 2)
    assert (folders / "scores" / f"{SHARD}.parquet").stat().st_mtime_ns == before


def test_failed_clips_are_retried_and_reported_in_every_run(tmp_path):
    valid, invalid = (
        replace(render_world(seed, num_frames=2, height=16, width=24), annotator="sfm") for seed in (1, 2)
    )
    invalid.depth[:] = np.nan
    rows, arrays = [], {}
    for clip in (valid, invalid):
        arrays[clip.name] = tmp_path / f"{clip.name}.safetensors"
        save_arrays(arrays[clip.name], clip.name, clip_arrays(clip))
        rows.append(clip_row(clip, SHARD))
    write_annotated(tmp_path / "annotated", SHARD, rows, arrays)
    expected = ((invalid.name, f"{invalid.name}: depth: expected finite positive values, found none"),)
    for done in (1, 0):
        report = score_shard(tmp_path / "annotated", SHARD, tmp_path / "scores")
        assert (report.requested, report.done, report.cached, report.failed) == (2, done, 1 - done, expected)


def test_shard_without_annotated_clips_is_rejected(tmp_path):
    first, second = (render_world(seed, num_frames=2, height=16, width=24) for seed in (100_000, 100_001))
    clip = Clip(name=second.name, rgb=first.rgb, subset="worlds")
    write_manifest(tmp_path, write_shard(tmp_path, SHARD, [clip]))
    annotate_shard(tmp_path, SHARD, tmp_path / "annotated")
    assert score_shard(tmp_path / "annotated", SHARD, tmp_path / "scores").requested == 0
    report = curate(tmp_path / "scores", tmp_path / "annotated", tmp_path / "curated.parquet")
    assert (report.accepted, report.rejected) == (0, 1)


def test_missing_tables_are_reported(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="worlds-0000 is not scored yet"):
        curate(tmp_path, folders / "annotated", tmp_path / "curated.parquet")
    with pytest.raises(FileNotFoundError, match="nowhere: expected annotated shards, found none"):
        curate(folders / "scores", tmp_path / "nowhere", tmp_path / "curated.parquet")
    assert not (tmp_path / "curated.parquet").exists()


def test_corrupt_score_table_is_reported(folders, tmp_path):
    (tmp_path / f"{SHARD}.parquet").write_text("not a table")
    with pytest.raises(ValueError, match=r"worlds-0000\.parquet: cannot be read as Parquet"):
        score_shard(folders / "annotated", SHARD, tmp_path)


def test_contact_sheet_shows_first_frame_last_frame_and_depth(folders):
    report = curate(folders / "scores", folders / "annotated", folders / "curated.parquet")
    sheet = thumbnails(folders / "annotated", report.table)
    assert sheet.shape == (3 * 64, 2 * 96, 3) and sheet.dtype == np.uint8
    world = render_world(100_000)
    assert np.abs(sheet[:64, :90].astype(int) - world.rgb[0, :, :90]).mean() < 5
    assert np.abs(sheet[64:128, :90].astype(int) - world.rgb[-1, :, :90]).mean() < 5
    assert thumbnails(folders / "annotated", report.table[~report.table["accepted"]]).std() == 0
