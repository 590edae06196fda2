"""Imported geometry: an exact world in the files of each tool is read back, and what does not fit is refused."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fourdnex.annotation import AnnotationError, create_annotator
from fourdnex.annotation.colmap_geometry import open_colmap
from fourdnex.annotation.geometry_formats import FORMATS
from fourdnex.cli import main
from fourdnex.datasets.annotated import iter_annotated, read_annotated_table
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from tests.annotation.geometry_files import WRITERS, write_colmap

VIDEO = replace(render_world(100_003, num_frames=9, height=32, width=48), name="whole", video="holiday", subset="")
CLIP = replace(VIDEO.window(3, 5), name="part", start=3 / VIDEO.fps)
BLANK = {"depth": None, "intrinsics": None, "camera_to_world": None, "confidence": None, "dynamic_mask": None}


def annotate(root: Path, clip=CLIP, **options):
    """The clip without its geometry, annotated."""
    return create_annotator("imported", geometry=root, **options).annotate(replace(clip, **BLANK))


def check(clip, exact, *, depth=1e-3):
    """Depth and poses are exact up to the rounding of the format: half floats, or millimeters."""
    assert clip.annotator == "imported" and clip.rgb.shape == exact.rgb.shape
    assert np.allclose(clip.depth, exact.depth, rtol=depth)
    assert np.allclose(clip.camera_to_world, exact.camera_to_world, atol=1e-4)
    assert np.allclose(clip.intrinsics, exact.intrinsics, atol=1e-3)


def test_every_format_is_tested():
    assert [*WRITERS, "colmap"] == list(FORMATS)


@pytest.mark.parametrize("format_", WRITERS)
def test_a_clip_gets_the_frames_at_its_time(tmp_path, format_):
    WRITERS[format_](tmp_path, "holiday", VIDEO)
    check(annotate(tmp_path), CLIP)


@pytest.mark.parametrize("format_", WRITERS)
def test_geometry_by_the_name_of_the_clip_comes_first(tmp_path, format_):
    WRITERS[format_](tmp_path, "part", CLIP)
    if format_ != "spatialvid":
        WRITERS[format_](tmp_path, "holiday", VIDEO.window(0, 2))
    check(annotate(tmp_path), CLIP)


@pytest.mark.parametrize("format_", WRITERS)
def test_another_number_of_frames_is_refused(tmp_path, format_):
    WRITERS[format_](tmp_path, "part", VIDEO)
    with pytest.raises(ValueError, match=f"{format_}: expected the 5 frames of the clip, got 9"):
        annotate(tmp_path)
    (tmp_path / "video").mkdir()
    WRITERS[format_](tmp_path / "video", "holiday", VIDEO.window(0, 7))
    with pytest.raises(ValueError, match=f"{format_}: expected geometry of frames 3 to 7 of holiday, found 4 of 5"):
        annotate(tmp_path / "video")


def test_masks_and_confidence(tmp_path):
    WRITERS["monst3r"](tmp_path, "holiday", VIDEO)
    clip = annotate(tmp_path)
    assert CLIP.dynamic_mask.any() and np.array_equal(clip.dynamic_mask, CLIP.dynamic_mask)
    assert np.allclose(clip.confidence, 0.75)
    shutil.rmtree(tmp_path / "holiday")
    WRITERS["vggt"](tmp_path, "holiday", VIDEO)
    assert np.allclose(annotate(tmp_path).confidence, 0.75)


def test_invalid_depth_has_no_confidence(tmp_path):
    depth = VIDEO.depth.copy()
    depth[4, 3, 5], depth[5, 6, 7] = np.nan, 0
    WRITERS["vggt"](tmp_path, "holiday", replace(VIDEO, depth=depth))
    clip = annotate(tmp_path)
    assert np.argwhere(clip.confidence == 0).tolist() == [[1, 3, 5], [2, 6, 7]]


def test_the_rate_of_the_geometry(tmp_path):
    """Geometry of every frame; the clip has every second frame."""
    WRITERS["vipe"](tmp_path, "holiday", VIDEO)
    half = replace(VIDEO.window(1, 7), start=1 / VIDEO.fps, fps=VIDEO.fps / 2, name="half")
    arrays = ("rgb", "depth", "camera_to_world", "confidence", "dynamic_mask")
    half = replace(half, **{field: getattr(half, field)[::2] for field in arrays})
    check(annotate(tmp_path, half, geometry_fps=VIDEO.fps), half)
    with pytest.raises(
        ValueError, match=r"up to 0.50 frames from those of the geometry at 12 per .*pass --geometry-fps"
    ):
        annotate(tmp_path, half)


def test_frames_without_geometry_are_refused(tmp_path):
    path = WRITERS["vipe"](tmp_path, "holiday", VIDEO)
    for file in (path, tmp_path / "intrinsics" / "holiday.npz"):
        arrays = dict(np.load(file))
        np.savez(file, **{name: np.delete(array, 5, axis=0) for name, array in arrays.items()})
    with pytest.raises(ValueError, match="found 4 of 5"):
        annotate(tmp_path)
    first = replace(VIDEO.window(0, 5), name="first", start=0.0)
    check(annotate(tmp_path, first), first)


def test_a_smaller_clip_gets_smaller_geometry(tmp_path):
    WRITERS["monst3r"](tmp_path, "part", CLIP)
    small = CLIP.resized(16, 24)
    clip = annotate(tmp_path, small)
    assert clip.rgb.shape[1:3] == (16, 24)
    assert np.allclose(clip.intrinsics, small.intrinsics, atol=1e-3) and np.allclose(clip.depth, small.depth)


def test_a_larger_clip_gets_the_size_of_the_geometry(tmp_path):
    WRITERS["vggt"](tmp_path, "part", CLIP)
    large = render_world(100_003, num_frames=9, height=64, width=96).window(3, 5)
    clip = annotate(tmp_path, replace(large, name="part"))
    check(clip, CLIP)
    assert np.abs(clip.rgb.astype(float) - CLIP.rgb).mean() < 8


def test_the_images_of_the_geometry_are_used_and_checked(tmp_path):
    WRITERS["megasam"](tmp_path, "part", CLIP)
    noisy = np.clip(CLIP.rgb.astype(int) + np.random.default_rng(0).integers(-9, 9, CLIP.rgb.shape), 0, 255)
    clip = annotate(tmp_path, replace(CLIP, rgb=noisy.astype(np.uint8)))
    assert np.array_equal(clip.rgb, CLIP.rgb)
    other = render_world(100_007, num_frames=5, height=32, width=48)
    with pytest.raises(ValueError, match="megasam: the images of the geometry do not show the clip"):
        annotate(tmp_path, replace(CLIP, rgb=other.rgb))


def test_another_ratio_is_refused(tmp_path):
    WRITERS["vipe"](tmp_path, "part", CLIP)
    tall = render_world(100_003, num_frames=5, height=48, width=32)
    with pytest.raises(ValueError, match="vipe: expected the ratio of 32x48, got 48x32"):
        annotate(tmp_path, replace(tall, name="part"))


def test_different_intrinsics_become_one_camera(tmp_path):
    path = WRITERS["vggt"](tmp_path, "part", CLIP)
    arrays = {key: array for key, array in np.load(path, allow_pickle=True).items() if key != "pose_enc_list"}
    arrays["intrinsic"] = arrays["intrinsic"] * np.linspace(0.97, 1.03, 5)[:, None, None]
    arrays["intrinsic"][:, :2, 2], arrays["intrinsic"][:, 2, 2] = CLIP.intrinsics[:2, 2], 1
    np.savez(path, **arrays)
    clip = annotate(tmp_path)
    assert clip.imported_pointmaps is None and clip.intrinsics[0, 0] == pytest.approx(CLIP.intrinsics[0, 0], rel=0.03)


def edited(path: Path, **changes) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"k1": 0.1}, "k1: expected images without lens distortion"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model: expected one of OPENCV, .* got 'OPENCV_FISHEYE'"),
        ({"fl_x": "wide"}, "fl_x: expected a number, got 'wide'"),
        ({"frames": []}, "frames: expected a list of frames"),
        ({"frames": [{"file_path": "images/a.png"}]}, "file_path: expected a name that ends with a number"),
        (
            {"frames": [{"file_path": "a0.png"}, {"file_path": "a1.png", "depth_file_path": "a.png"}]},
            r"depth_file_path: 1 of 2 frames have a camera without depth, such as a0\.png",
        ),
    ],
)
def test_transforms_that_are_refused(tmp_path, change, reason):
    path = WRITERS["nerfstudio"](tmp_path, "part", CLIP)
    edited(path, **change)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {reason}"):
        annotate(tmp_path)


def test_numbers_of_nerfstudio_start_at_0_or_1(tmp_path):
    path = WRITERS["nerfstudio"](tmp_path, "holiday", VIDEO)
    frames = json.loads(path.read_text())["frames"]
    for frame in frames:
        frame["file_path"] = f"images/frame_{int(frame['file_path'][-8:-4]) + 1:05d}.png"
    edited(path, frames=[frame for frame in frames if not frame["file_path"].endswith("2.png")])
    check(annotate(tmp_path), CLIP)


@pytest.mark.parametrize(
    ("format_", "file"),
    [
        ("monst3r", "part/frame_0002.npy"),
        ("monst3r", "part/pred_intrinsics.txt"),
        ("vipe", "intrinsics/part.npz"),
        ("vipe", "depth/part.zip"),
        ("spatialvid", "annotations/group_0001/part/indexes.txt"),
        ("nerfstudio", "part/depth/frame_0002.png"),
    ],
)
def test_missing_and_damaged_files_are_named(tmp_path, format_, file):
    WRITERS[format_](tmp_path, "part", CLIP)
    path = tmp_path / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(path.name) if path.suffix != ".npy" else "frame_0002"):
        annotate(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{re.escape(path.parent.name)}|expected [0-9] lines"):
        annotate(tmp_path)


def test_pickles_are_not_loaded(tmp_path):
    path = WRITERS["vggt"](tmp_path, "part", CLIP)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
    content["depth.npy"] = (tmp_path / "evil.npy").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"depth\.npy: expected an array of numbers, got object"):
        annotate(tmp_path)


def test_other_cameras_than_pinhole_are_refused(tmp_path):
    WRITERS["vipe"](tmp_path, "part", CLIP)
    (tmp_path / "intrinsics" / "part_camera.txt").write_text("0: PANORAMA\n")
    with pytest.raises(ValueError, match="expected cameras of type PINHOLE, got PANORAMA"):
        annotate(tmp_path)


def test_a_shard_is_annotated_and_imported_again_when_files_change(tmp_path, capsys):
    clips = [replace(CLIP, name=name, video=video, **BLANK) for name, video in (("a", "holiday"), ("b", ""))]
    write_manifest(tmp_path / "data", write_shard(tmp_path / "data", "s", clips))
    root = tmp_path / "geometry"
    WRITERS["vipe"](root, "holiday", VIDEO)
    arguments = ["annotate", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    arguments += ["--annotator", "imported", "--geometry", str(root)]
    assert main(arguments) == 0
    assert "1 done, 0 cached, 1 failed of 2" in capsys.readouterr().out
    table = read_annotated_table(tmp_path / "out", "s")
    assert "expected geometry (megasam" in table["reason"][1] and "named b, found none" in table["reason"][1]
    assert table["annotator_license"].tolist() == ["the tool's own"] * 2
    (clip,) = iter_annotated(tmp_path / "out", "s")
    check(clip, CLIP)
    assert main(arguments) == 0 and "0 done, 1 cached, 1 failed of 2" in capsys.readouterr().out
    WRITERS["monst3r"](root, "b", CLIP)
    assert main(arguments) == 0 and "2 done, 0 cached, 0 failed of 2" in capsys.readouterr().out


def test_options_of_the_command(tmp_path, capsys):
    for arguments, reason in (
        (["--geometry", str(tmp_path)], "--geometry: expected --annotator beside it"),
        (["--imported", "10m", "--depth-network", "tiny"], "--depth-network: expected --annotator beside it"),
        (["--annotator", "imported"], "annotator imported: expected --geometry, got none"),
        (["--annotator", "sfm", "--geometry", str(tmp_path)], "annotator sfm: takes no --geometry"),
        (["--annotator", "imported", "--geometry", str(tmp_path / "no")], "no: expected a folder, found none"),
    ):
        assert main(["annotate", *arguments]) == 2
        assert reason in capsys.readouterr().err
    with pytest.raises(ValueError, match="geometry_fps: expected a positive number, got 0"):
        create_annotator("imported", geometry=tmp_path, geometry_fps=0.0)


def without_depth(format_: str, root: Path, name: str, clip) -> Path:
    """Write the cameras of a clip only."""
    if format_ == "colmap":
        return write_colmap(root, name, clip)
    path = WRITERS[format_](root, name, clip)
    if format_ == "spatialvid":
        shutil.rmtree(root / "depths")
    else:
        frames = json.loads(path.read_text())["frames"]
        edited(path, frames=[{k: v for k, v in frame.items() if k != "depth_file_path"} for frame in frames])
    return path


@pytest.fixture(scope="module")
def orbit(corner):
    """A textured corner that stereo can reconstruct."""
    return corner(num_frames=7, height=96, width=128, amount=0.35)


@pytest.mark.parametrize("format_", ["spatialvid", "nerfstudio", "colmap"])
def test_cameras_without_depth_get_dense_depth(tmp_path, orbit, format_):
    without_depth(format_, tmp_path, "corner", orbit)
    clip = annotate(tmp_path, orbit)
    assert np.allclose(clip.camera_to_world, orbit.camera_to_world, atol=1e-4)
    tolerance = 0.5 if format_ == "spatialvid" else 1e-2  # it normalizes by the size without the half pixel
    assert np.allclose(clip.intrinsics, orbit.intrinsics, atol=tolerance)
    known = np.isfinite(clip.depth)
    assert known.mean() > 0.5 and (clip.confidence[~known] == 0).all()
    assert np.abs(clip.depth / orbit.depth - 1)[known].mean() < 0.02, "in the unit of the files"


def test_cameras_that_contradict_the_video_are_refused(tmp_path, orbit):
    """The frames in reverse order, but not the cameras."""
    write_colmap(tmp_path, "corner", orbit)
    with pytest.raises(AnnotationError, match=r"the cameras contradict the video: they explain \d+% of the optical"):
        annotate(tmp_path, replace(orbit, rgb=orbit.rgb[::-1]))


def test_cameras_that_only_rotate_are_refused(tmp_path, orbit):
    poses = orbit.camera_to_world.copy()
    poses[:, :3, 3] = 0
    poses[:] = poses[0]
    still = replace(orbit, rgb=np.repeat(orbit.rgb[:1], 7, axis=0), camera_to_world=poses)
    write_colmap(tmp_path, "corner", still)
    with pytest.raises(AnnotationError, match="frame 0: expected points with a parallax of at least"):
        annotate(tmp_path, still)


def test_a_damaged_model_of_colmap_is_refused(tmp_path, orbit):
    folder = write_colmap(tmp_path, "corner", orbit)
    for name in ("images.bin", "cameras.bin"):
        content = (folder / name).read_bytes()
        for length in (0, 4, 20, len(content) // 2, len(content) - 3):
            (folder / name).write_bytes(content[:length])
            with pytest.raises(ValueError, match=name.replace(".", "[.]")):
                annotate(tmp_path, orbit)
        (folder / name).write_bytes(content)
    cameras = bytearray((folder / "cameras.bin").read_bytes())
    cameras[12] = 4  # OPENCV
    (folder / "cameras.bin").write_bytes(cameras)
    with pytest.raises(ValueError, match="expected PINHOLE cameras of undistorted images, got model 4"):
        annotate(tmp_path, orbit)


def test_a_model_of_pycolmap_is_read(tmp_path, orbit):
    """Written by COLMAP itself, in a process of its own."""
    code = "import sys, pycolmap\nmodel = pycolmap.Reconstruction(sys.argv[1])\nmodel.write_binary(sys.argv[1])\n"
    folder = write_colmap(tmp_path, "corner", orbit)
    before = open_colmap(folder)
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    after = open_colmap(folder)
    assert np.array_equal(after.frames, before.frames) and after.size == (96, 128)
    assert np.allclose(after.camera_to_world, before.camera_to_world, atol=1e-9)
    assert np.allclose(after.intrinsics, before.intrinsics)
