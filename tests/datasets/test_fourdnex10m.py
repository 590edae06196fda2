"""Reader of 4DNeX-10M: exact worlds written in its layout are read back as clips."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from fourdnex.annotation import AnnotationError, ImportedAnnotator
from fourdnex.cli import main
from fourdnex.clip import Clip
from fourdnex.curation.scores import score_clip
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.fourdnex10m import SUBSETS, iter_clips, read_clip
from fourdnex.datasets.manifest import list_shards, read_manifest, write_manifest
from fourdnex.datasets.shards import SourceShard, write_shard
from tests.datasets.fourdnex10m_files import COUNT, NAMES, expected_clip, poses_in_the_files


@pytest.fixture
def data(written, tmp_path) -> Path:
    """A copy of the data set that a test may modify."""
    return Path(shutil.copytree(written, tmp_path / "data"))


def read_one(data: Path, subset: str) -> Clip:
    (clip,) = iter_clips(data, subsets=[subset])
    return clip


def failure_reason(data: Path, subset: str) -> str:
    """The failure reason of the only clip of a subset, which is also raised without `failed`."""
    failed: list[tuple[str, str]] = []
    assert list(iter_clips(data, subsets=[subset], failed=failed)) == []
    ((name, reason),) = failed
    with pytest.raises(ValueError, match=re.escape(f"{name}: {reason}")):
        list(iter_clips(data, subsets=[subset]))
    return reason


def monst3r_file(data: Path, name: str) -> Path:
    return data / "dynamic" / "dynamic_1" / "00012" / "00012_2-5" / name


@pytest.mark.parametrize("subset", SUBSETS)
def test_clips_round_trip_in_the_frame_of_the_first_camera(written, subset):
    clip, exact = read_one(written, subset), expected_clip(subset)
    assert clip.name == NAMES[subset] and clip.subset == subset
    assert clip.caption == ("" if subset == "dynamic_2" else exact.caption)
    assert clip.tags == (subset.split("_")[0],) and clip.license == "apache-2.0"
    assert clip.annotator == {"dynamic_3": "megasam"}.get(subset, "dust3r" if "static" in subset else "monst3r")
    assert clip.source.startswith(f"4DNeX-10M, {subset.split('_')[0]}/{subset}/")
    assert clip.fps == (24 if subset == "static_1" else 12)
    assert 10 * np.log10(255**2 / np.maximum(np.mean((clip.rgb.astype(float) - exact.rgb) ** 2), 1e-9)) > 35
    rounded = 3e-3 if subset in ("dynamic_2", "static_1", "static_2") else 1e-4
    assert np.allclose(clip.camera_to_world, exact.camera_to_world, atol=rounded)
    depth = exact.depth[..., None]
    assert (np.abs(clip.pointmaps - exact.pointmaps) < rounded * (1 + depth)).all()
    if "static" in subset:
        assert clip.depth is None and clip.intrinsics is None and clip.dynamic_mask is None
    else:
        assert np.allclose(clip.intrinsics, exact.intrinsics) and np.allclose(clip.depth, exact.depth, rtol=1e-3)


def test_dynamic_masks_round_trip_and_missing_ones_are_empty(written):
    assert expected_clip("dynamic_1").dynamic_mask.any() and expected_clip("dynamic_2").dynamic_mask[1].any()
    assert np.array_equal(read_one(written, "dynamic_1").dynamic_mask, expected_clip("dynamic_1").dynamic_mask)
    mask = read_one(written, "dynamic_2").dynamic_mask
    assert not mask[1].any() and np.array_equal(mask[[0, 2, 3]], expected_clip("dynamic_2").dynamic_mask[[0, 2, 3]])
    assert read_one(written, "dynamic_3").dynamic_mask is None


def test_present_subsets_are_read_in_order(data):
    assert [clip.name for clip in iter_clips(data.parent)] == list(NAMES.values())
    shutil.rmtree(data / "dynamic" / "dynamic_2")
    shutil.rmtree(data / "static")
    assert [clip.subset for clip in iter_clips(data)] == ["dynamic_1", "dynamic_3"]
    with pytest.raises(FileNotFoundError, match="expected dynamic_3, static_2, found dynamic_1, dynamic_3"):
        iter_clips(data, subsets=["static_2", "dynamic_3"])


def test_missing_data_set_or_unknown_subset_raises(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"expected dynamic/ or static/ of 4DNeX-10M in it or in its data/ folder"
    ):
        iter_clips(tmp_path)
    (tmp_path / "static").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected dynamic_1, .*, static_2, found none"):
        iter_clips(tmp_path)
    with pytest.raises(ValueError, match=r"subsets: expected a subset of dynamic_1, .*, got dynamic_4"):
        iter_clips(tmp_path, subsets=["dynamic_4"])


def test_failed_clips_are_reported_and_iteration_continues(data):
    monst3r_file(data, "frame_0002.npy").unlink()
    (data / "static" / "static_1" / "notes.txt").write_text("hello")
    failed: list[tuple[str, str]] = []
    names = [clip.name for clip in iter_clips(data, failed=failed)]
    assert names == [name for subset, name in NAMES.items() if subset != "dynamic_1"]
    assert [name for name, _ in failed] == [NAMES["dynamic_1"], "static/static_1/notes.txt"]
    assert "frame_0002.npy: expected a file, found none" in failed[0][1]
    assert (
        "expected a path of the form {number}/frame_{start}{suffix}-frame_{end}{suffix}.npz in static_1" in failed[1][1]
    )


def test_clips_round_trip_through_shards(written, tmp_path):
    numbers, rows = itertools.count(), []
    for shard, clips in itertools.groupby(iter_clips(written), lambda clip: next(numbers) // 2):
        rows += write_shard(tmp_path, f"4dnex-{shard:04d}", clips)
    write_manifest(tmp_path, rows)
    manifest = read_manifest(tmp_path)
    assert list_shards(tmp_path) == ["4dnex-0000", "4dnex-0001", "4dnex-0002"]
    assert manifest["name"].tolist() == list(NAMES.values())
    back = SourceShard(tmp_path, "4dnex-0001").read(NAMES["static_1"])
    clip = read_one(written, "static_1")
    assert (back.subset, back.caption, back.tags, back.fps) == (clip.subset, clip.caption, clip.tags, clip.fps)
    assert 10 * np.log10(255**2 / np.mean((back.rgb.astype(float) - clip.rgb) ** 2)) > 35


@pytest.mark.parametrize("source", [
    "", "my camera", "4DNeX-10M, ", "4DNeX-10M, dynamic/dynamic_4/1/a_0-1", "4DNeX-10M, dynamic/static_1/1/a_0-1",
    "4DNeX-10M, dynamic/dynamic_1/../a_0-1", "4DNeX-10M, /etc/dynamic_1/1/a_0-1",
])  # fmt: skip
def test_foreign_source_raises(written, source):
    with pytest.raises(ValueError, match="expected"):
        read_clip(written, source)


def test_annotation_keeps_the_imported_geometry(written, tmp_path):
    write_manifest(tmp_path, write_shard(tmp_path, "s", iter_clips(written)))
    annotated = tmp_path / "annotated"
    assert main(["annotate", "--data", str(tmp_path), "--output", str(annotated), "--imported", str(written)]) == 0
    assert read_annotated_table(annotated, "s")["reason"].tolist() == [""] * len(SUBSETS)
    for clip in iter_annotated(annotated, "s"):
        exact = expected_clip(clip.subset)
        assert clip.annotator == "4dnex-10m" and np.allclose(clip.depth, exact.depth, rtol=5e-3)
        assert (np.abs(clip.pointmaps - exact.pointmaps) < 5e-3 * (1 + exact.depth[..., None])).all()
        assert 0 < score_clip(clip).confident_share <= 1


def test_points_without_a_fitting_camera_fail(data):
    path = data / "static" / "static_2" / "part_3" / "00012" / "frame_00003-frame_00006.npz"
    flat = np.zeros((COUNT, 32, 48, 3), np.float32)
    np.savez(path, np.array({"pts3d": flat, "poses": poses_in_the_files("static_2")}, dtype=object))
    with pytest.raises(AnnotationError, match="no cameras fit the point maps"):
        ImportedAnnotator(data).annotate(read_one(data, "static_2"))


def test_invalid_depth_stays_invalid(data):
    depth = expected_clip("dynamic_1").depth[1].copy()
    depth[3, 4], depth[5, 6], depth[7, 8] = np.nan, np.inf, 0
    np.save(monst3r_file(data, "frame_0001.npy"), depth)
    clip = read_one(data, "dynamic_1")
    assert np.isnan(clip.pointmaps[1, [3, 5, 7], [4, 6, 8]]).all()
    assert np.isfinite(clip.pointmaps).all(axis=-1).sum() == clip.depth.size - 3


def test_zoom_uses_per_frame_intrinsics(data):
    exact = expected_clip("dynamic_1")
    zoom = np.tile(exact.intrinsics, (COUNT, 1, 1)).astype(np.float64)
    zoom[:, [0, 1], [0, 1]] *= np.linspace(1, 1.2, COUNT)[:, None]
    np.savetxt(monst3r_file(data, "pred_intrinsics.txt"), zoom.reshape(COUNT, 9))
    clip = read_one(data, "dynamic_1")
    assert clip.intrinsics is None and np.array_equal(clip.depth, exact.depth)
    # In the camera frame, x / z = (column - cx) / fx.
    last = clip.pointmaps[-1] - clip.camera_to_world[-1, :3, 3]
    x, _, z = np.moveaxis(last @ clip.camera_to_world[-1, :3, :3], -1, 0)
    assert np.allclose(x / z, (np.arange(48) - zoom[-1, 0, 2]) / zoom[-1, 0, 0], atol=1e-4)
    zoom[:, [0, 1], [0, 1]] = exact.intrinsics[0, 0] + np.linspace(-0.4, 0.4, COUNT)[:, None]
    np.savetxt(monst3r_file(data, "pred_intrinsics.txt"), zoom.reshape(COUNT, 9))
    assert np.allclose(read_one(data, "dynamic_1").intrinsics, exact.intrinsics, atol=1e-3)


def test_static_2_frames_are_numbered_from_0_if_a_file_starts_at_0(data):
    folder = data / "static" / "static_2" / "part_3" / "00012"
    (folder / "frame_00003-frame_00006.npz").rename(folder / "frame_00002-frame_00005.npz")
    (folder / "frame_00000-frame_00003.npz").write_text("")
    failed: list[tuple[str, str]] = []
    (clip,) = iter_clips(data, subsets=["static_2"], failed=failed)
    assert clip.name == "static_2-00012-00002-00005" and failed[0][0] == "static_2-00012-00000-00003"
    assert np.abs(clip.rgb.astype(int) - expected_clip("static_2").rgb).mean() < 3


def test_rotations_are_projected_and_invalid_ones_fail(data):
    rotation = read_one(data, "static_1").camera_to_world[:, :3, :3].astype(np.float64)
    assert np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() < 1e-6
    path = data / "dynamic" / "dynamic_3" / "00012" / "frame_00002-frame_00005.npz"
    arrays = dict(np.load(path))
    for scale in ((1, 1, 1.1), (1, 1, -1), (1, 1, np.nan)):
        np.savez(path, **arrays | {"cam_c2w": arrays["cam_c2w"] * np.array([*scale, 1])})
        assert "cameras: expected" in failure_reason(data, "dynamic_3")
    trajectory = np.loadtxt(monst3r_file(data, "pred_traj.txt"))
    np.savetxt(monst3r_file(data, "pred_traj.txt"), trajectory * ([1] * 4 + [0] * 4))
    assert "pred_traj.txt: expected quaternions of length 1, got [0.0" in failure_reason(data, "dynamic_1")


def test_arrays_of_the_wrong_shape_fail(data):
    path = monst3r_file(data, "frame_0001.npy")
    np.save(path, np.zeros((16, 48), np.float32))
    assert "frame_*.npy: expected [H, W] of one size, got [(16, 48), (32, 48)]" in failure_reason(data, "dynamic_1")
    np.save(path, expected_clip("dynamic_1").depth[1])
    text = monst3r_file(data, "pred_intrinsics.txt").read_text().splitlines(keepends=True)
    monst3r_file(data, "pred_intrinsics.txt").write_text("".join(text[:3]))
    assert "pred_intrinsics.txt: expected 4 lines of 9 numbers, got (3, 9)" in failure_reason(data, "dynamic_1")
    path = data / "static" / "static_1" / "00012" / "frame_00003.png-frame_00006.png.npz"
    path.rename(path.with_name("frame_00003.png-frame_00007.png.npz"))
    assert "pts3d: expected [5, H, W, 3], got (4, 32, 48, 3)" in failure_reason(data, "static_1")


def test_pickled_code_is_refused_and_not_executed(data):
    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {data / 'mark'}",)

    path = data / "static" / "static_1" / "00012" / "frame_00003.png-frame_00006.png.npz"
    np.savez(path, np.array({"pts3d": Malicious(), "poses": np.eye(4)}, dtype=object))
    assert "pickle rejected" in failure_reason(data, "static_1")
    path = data / "dynamic" / "dynamic_3" / "00012" / "frame_00002-frame_00005.npz"
    np.savez(path, **dict(np.load(path)) | {"depths": np.array(Malicious(), dtype=object)})
    assert "expected an array of numbers, got object" in failure_reason(data, "dynamic_3")
    assert not (data / "mark").exists()


def test_truncated_files_fail(data):
    path = data / "dynamic" / "dynamic_3" / "00012" / "frame_00002-frame_00005.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert "expected an undamaged .npz file" in failure_reason(data, "dynamic_3")
    image = data / "raw" / "static" / "static_1" / "00012" / "images_4" / "frame_00004.png"
    image.write_bytes(image.read_bytes()[:200])
    assert "frame_00004.png: expected a PNG or JPEG image" in failure_reason(data, "static_1")
    video = data / "raw" / "static" / "static_2" / "00012.mp4"
    video.write_bytes(video.read_bytes()[:1000])
    assert "00012.mp4: " in failure_reason(data, "static_2")


@pytest.mark.parametrize("subset, path", [
    ("dynamic_1", "dynamic/dynamic_1/00012/00012_2-5"),
    ("dynamic_1", "dynamic/dynamic_1/00012/00012_2-5/pred_traj.txt"),
    ("dynamic_2", "raw/dynamic/dynamic_2/00012.mp4"),
    ("static_1", "static/static_1"),
    ("static_1", "raw/static/static_1/00012/images_4"),
    ("static_2", "static/static_2/part_3"),
])  # fmt: skip
def test_links_out_of_the_data_set_are_refused(data, tmp_path, subset, path):
    (data / path).rename(tmp_path / "outside")
    (data / path).symlink_to(tmp_path / "outside")
    assert re.search("expected a file inside|expected a path of the form .*npz", failure_reason(data, subset))


def test_caption_links_out_of_the_data_set_are_refused(data, tmp_path):
    path = data / "caption" / "static_1_with_caption_upload.csv"
    path.rename(tmp_path / "outside.csv")
    path.symlink_to(tmp_path / "outside.csv")
    with pytest.raises(ValueError, match="expected a file inside"):
        read_one(data, "static_1")
    path.unlink()
    path.write_text("video,text\n12,hello\n")
    with pytest.raises(ValueError, match="expected a table with the columns number,caption"):
        read_one(data, "static_1")


def test_playlist_named_as_a_video_is_refused(data):
    video = data / "raw" / "dynamic" / "dynamic_1" / "00012.mp4"
    video.write_text(f"ffconcat version 1.0\nfile {data / 'raw' / 'dynamic' / 'dynamic_2' / '00012.mp4'}\n")
    assert "expected an MP4 file, got a file that starts with b'ffconcat'" in failure_reason(data, "dynamic_1")


def test_duplicate_annotation_of_the_same_frames_fails(data):
    folder = data / "dynamic" / "dynamic_1" / "00012"
    shutil.copytree(folder / "00012_2-5", folder / "again_2-5")
    failed: list[tuple[str, str]] = []
    assert len(list(iter_clips(data, subsets=["dynamic_1"], failed=failed))) == 1
    assert "expected one annotation of these frames" in failed[0][1]


def test_clips_are_released_before_the_next_one_is_read(written):
    clips = iter_clips(written)
    first = weakref.ref(next(clips))
    assert first() is None
    assert next(clips).name == NAMES["dynamic_2"]
