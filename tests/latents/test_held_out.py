"""Held-out clips, and which of them a model has seen in training."""

import pandas as pd
import pytest

from fourdnex.latents.held_out import check_not_trained_on, read_held_out, trained_on, training_sources

COLUMNS = ("name", "sha256", "source_sha256", "video")


def clips(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_clip_is_recognized_by_its_digest_its_source_file_or_its_source_video():
    training = clips(("t1", "d1", "s1", "v1"), ("t2", "d2", "", "v2"), ("old", "", "", ""))
    held_out = clips(
        ("copy", "d1", "s9", "v9"),
        ("other-window", "d7", "s1", "v7"),
        ("same-video-without-digests", "d5", "", "v2"),
        ("another-file-of-the-same-name", "d6", "s6", "v1"),
        ("old", "d8", "s8", "v8"),
        ("new", "d9", "s9", "v9"),
        ("unnamed", "", "", ""),
    )
    seen = trained_on(held_out, training)
    assert list(seen) == ["copy", "other-window", "same-video-without-digests", "old"]
    assert seen["other-window"] == "its source file has training clips"


def test_only_accepted_clips_outside_the_training_split_of_a_curated_table_are_held_out(tmp_path):
    path = tmp_path / "curated.parquet"
    table = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "shard": "s",
            "accepted": [True, True, False, True],
            "split": ["train", "test", "", "val"],
            "video": ["v1", "v2", "v3", None],
        }
    )
    table.to_parquet(path)
    held_out = read_held_out(path)
    assert held_out["name"].tolist() == ["b", "d"] and held_out["video"].tolist() == ["v2", ""]
    table.assign(split="train").to_parquet(path)
    with pytest.raises(ValueError, match=r"expected held-out clips in .*curated\.parquet, got none of its 4 clips"):
        read_held_out(path)


def test_a_folder_is_a_data_set_or_annotated_shards_without_failed_clips(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected annotated shards or a manifest\.parquet"):
        read_held_out(tmp_path)
    pd.DataFrame({"name": ["a", "b"], "shard": "s", "reason": ["", "too dark"]}).to_parquet(tmp_path / "s.parquet")
    assert read_held_out(tmp_path)["name"].tolist() == ["a"]
    pd.DataFrame({"name": ["m"], "shard": "s", "sha256": "d"}).to_parquet(tmp_path / "manifest.parquet")
    assert read_held_out(tmp_path)["sha256"].tolist() == ["d"]


def test_latents_with_held_out_clips_are_refused(tmp_path):
    clips(("t1", "d1", "s1", "v1")).to_parquet(tmp_path / "one.parquet")
    pd.DataFrame({"name": ["old"]}).to_parquet(tmp_path / "two.parquet")  # written by an earlier version
    assert training_sources(tmp_path, ["one", "two"])["sha256"].tolist() == ["d1", ""]
    held_out = tmp_path / "test.parquet"
    clips(("x", "d3", "s3", "v3")).assign(shard="s").to_parquet(held_out)
    check_not_trained_on(held_out, tmp_path, ["one", "two"])
    clips(("x", "d3", "s1", "v3")).assign(shard="s").to_parquet(held_out)
    with pytest.raises(
        ValueError, match=r"held_out_clips: expected no clip .* got 1 \(x: its source file has training"
    ):
        check_not_trained_on(held_out, tmp_path, ["one", "two"])
