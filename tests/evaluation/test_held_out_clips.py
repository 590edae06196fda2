"""Reading of real clips for evaluation: confidence, sizes and clips that were trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fourdnex.clip import Clip
from fourdnex.datasets.annotated import clip_arrays, clip_row, save_arrays, write_annotated
from fourdnex.datasets.worlds import render_world
from fourdnex.evaluation.held_out_clips import HeldOutClips, read_held_out_clips
from fourdnex.evaluation.scoring import score

SIZE = (5, 32, 48)


def write(folder: Path, clips: list[Clip]) -> Path:
    """Annotated clips, each with its name as digest."""
    rows, arrays = [], {}
    for clip in clips:
        arrays[clip.name] = folder / f"{clip.name}.arrays"
        save_arrays(arrays[clip.name], clip.name, clip_arrays(clip))
        rows.append(clip_row(clip, "s", sha256=f"digest of {clip.name}"))
    write_annotated(folder / "annotated", "s", rows, arrays)
    return folder / "annotated"


def read(annotated: Path, adapter: Path, path: Path | None = None, max_clips: int = 256) -> HeldOutClips:
    return read_held_out_clips(
        path or annotated, annotated=annotated, adapter=adapter, size=SIZE, min_confidence=0.5, max_clips=max_clips
    )


@pytest.fixture(scope="module")
def world() -> Clip:
    return replace(render_world(3, num_frames=9, height=48, width=72), name="world")


def test_pixels_of_low_confidence_do_not_count(world, tmp_path):
    confidence = np.full(world.depth.shape, 0.9, np.float32)
    confidence[:, :24] = 0.2
    annotated = write(tmp_path, [replace(world, confidence=confidence)])
    held_out = read(annotated, tmp_path)
    (clip,) = held_out.clips
    assert clip.rgb.shape == (*SIZE, 3) and held_out.known_share == pytest.approx(0.5)
    assert np.isnan(clip.depth[:, :16]).all() and np.isfinite(clip.depth[:, 16:]).all()
    assert not held_out.training_is_recorded
    broken = np.where(np.isnan(clip.depth)[..., None], np.float32(3), clip.pointmaps)
    full = world.window(0, 5).resized(32, 48)
    right = score(clip, clip.rgb, full.pointmaps)
    assert right["abs_rel"] < 1e-3 and right["xyz_error"] < 1e-3
    assert score(full, full.rgb, broken)["xyz_error"] > 0.05  # where everything counts, the same points are wrong


def test_unusable_clips_are_skipped_with_the_reason(world, tmp_path):
    confidence = np.ones(world.depth.shape, np.float32)
    confidence[2] = 0
    clips = [world, replace(world.window(0, 4), name="short"), replace(world, name="gap", confidence=confidence)]
    annotated = write(tmp_path, clips)
    table = pd.DataFrame({"name": ["world", "short", "gap", "absent"], "shard": "s"})
    table.to_parquet(tmp_path / "held_out.parquet")
    held_out = read(annotated, tmp_path, tmp_path / "held_out.parquet")
    assert [clip.name for clip in held_out.clips] == ["world"]
    reasons = dict(held_out.skipped)
    assert reasons["short"] == "expected at least 5 frames, got 4"
    assert "1% of the pixels of every frame with a confidence of 0.5, got 0.0%" in reasons["gap"]
    assert reasons["absent"].startswith("not annotated in")


def test_clips_of_trained_videos_are_left_out(world, tmp_path):
    clips = [replace(world, name=name, video=video) for name, video in (("a", "v1"), ("b", "v2"), ("c", "v3"))]
    annotated = write(tmp_path, clips)
    record = tmp_path / "adapter" / "training" / "clips.parquet"
    record.parent.mkdir(parents=True)
    training = pd.DataFrame(
        {"name": ["x", "y"], "sha256": ["digest of a", "?"], "source_sha256": "", "video": ["", "v2"]}
    )
    training.to_parquet(record)
    held_out = read(annotated, tmp_path / "adapter")
    assert [clip.name for clip in held_out.clips] == ["c"] and held_out.training_is_recorded
    assert dict(held_out.skipped) == {
        "a": "held out, but the same video is a training clip",
        "b": "held out, but its source video has training clips",
    }
    training.assign(video="v3", sha256="digest of a").to_parquet(record)
    (annotated / "s.parquet").rename(tmp_path / "all.parquet")
    pd.read_parquet(tmp_path / "all.parquet").query("name != 'b'").to_parquet(annotated / "s.parquet")
    with pytest.raises(ValueError, match=r"expected held-out clips that can be evaluated .*got none \(a: held out"):
        read(annotated, tmp_path / "adapter")


def test_of_many_clips_some_are_taken_over_the_whole_table(world, tmp_path):
    annotated = write(tmp_path, [replace(world, name=f"clip-{i}") for i in range(5)])
    assert [clip.name for clip in read(annotated, tmp_path, max_clips=3).clips] == ["clip-0", "clip-2", "clip-4"]
