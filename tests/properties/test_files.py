"""Files: what is written is read back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdnex.io.depth_codec import decode_depth, encode_depth
from fourdnex.io.files import read_json, write_json
from fourdnex.io.lossless_video import read_lossless, write_lossless
from fourdnex.io.numpy_files import read_npy, read_npz
from fourdnex.rendering.camera_files import load_path
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.scene import Scene4D
from fourdnex.tracks.files import _quantization_step, read_tracks, write_tracks
from tests.properties.strategies import generators, intrinsics, names, poses, scenes, tracks


@settings(max_examples=25)
@given(scene=scenes())
def test_scenes_are_restored(tmp_path, scene):
    scene.save(tmp_path / "scene")
    loaded = Scene4D.load(tmp_path / "scene")
    assert np.array_equal(loaded.rgb, scene.rgb)
    assert np.array_equal(loaded.depth, decode_depth(*encode_depth(scene.depth)), equal_nan=True)
    assert np.array_equal(loaded.camera_to_world, scene.camera_to_world)
    assert np.array_equal(loaded.intrinsics, scene.intrinsics)
    assert (loaded.name, loaded.fps, loaded.provenance) == (scene.name, scene.fps, scene.provenance)
    assert (loaded.origin is None) == (scene.origin is None) and (loaded.tracks is None) == (scene.tracks is None)
    assert scene.origin is None or np.array_equal(loaded.origin, scene.origin)
    if scene.confidence is None:
        assert loaded.confidence is None
    else:
        assert np.abs(loaded.confidence - scene.confidence).max() <= 0.5 / 255 + 1e-6
    for frame in range(scene.num_frames):
        one = Scene4D.load(tmp_path / "scene", frame=frame)
        assert np.array_equal(one.rgb[0], loaded.rgb[frame])
        assert np.array_equal(one.depth[0], loaded.depth[frame], equal_nan=True)


@given(original=st.integers(1, 5).flatmap(tracks))
def test_tracks_are_restored_within_their_step(tmp_path, original):
    write_tracks(original, tmp_path / "tracks")
    loaded = read_tracks(tmp_path / "tracks")
    for field in ("visible", "first_frame", "pixel", "rgb", "moves"):
        assert np.array_equal(getattr(loaded, field), getattr(original, field)), field
    half_step = _quantization_step(original.positions) / 2
    assert loaded.positions == pytest.approx(original.positions, abs=1.01 * half_step, rel=1e-6, nan_ok=True)
    write_tracks(loaded, tmp_path / "tracks")
    assert read_tracks(tmp_path / "tracks").positions == pytest.approx(loaded.positions, abs=2 * half_step, nan_ok=True)


@given(data=st.data(), count=st.integers(1, 5), height=st.integers(1, 50), width=st.integers(1, 50), rng=generators)
def test_camera_files_are_restored(tmp_path, data, count, height, width, rng):
    path = CameraPath(
        camera_to_world=data.draw(poses(count)),
        intrinsics=np.stack([data.draw(intrinsics(height, width)) for _ in range(count)]),
        times=rng.random(count),
        fps=data.draw(st.none() | st.floats(1, 120)),
    )
    path.save(tmp_path / "path.json", height=height, width=width)
    loaded = load_path(tmp_path / "path.json", intrinsics=np.eye(3), height=height, width=width)
    assert loaded.camera_to_world == pytest.approx(path.camera_to_world, abs=1e-9)
    assert loaded.intrinsics == pytest.approx(path.intrinsics, rel=1e-9, abs=1e-9)
    assert np.array_equal(loaded.times, path.times) and loaded.fps == path.fps


@given(data=st.data(), factor=st.integers(2, 5))
def test_cameras_of_a_file_scale_with_the_size_of_the_frames(tmp_path, data, factor):
    path = CameraPath(camera_to_world=data.draw(poses(1)), intrinsics=data.draw(intrinsics(6, 9))[None], times=[0.0])
    path.save(tmp_path / "path.json", height=6, width=9)
    large = load_path(tmp_path / "path.json", intrinsics=np.eye(3), height=6 * factor, width=9 * factor)
    lens, expected = large.intrinsics[0], path.intrinsics[0] * factor
    # Pixel centers are at integers: the border of the image is at -0.5.
    assert lens[[0, 1], [0, 1]] == pytest.approx(expected[[0, 1], [0, 1]])
    assert lens[:2, 2] + 0.5 == pytest.approx((path.intrinsics[0, :2, 2] + 0.5) * factor)


@settings(max_examples=25)
@given(
    kind=st.sampled_from([("u1", (3,)), ("u1", ()), ("u2", ())]),
    size=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 15, 16, 33]), st.sampled_from([1, 5, 16, 40])),
    rng=generators,
)
def test_lossless_videos_restore_every_value(tmp_path, kind, size, rng):
    dtype, channels = np.dtype(kind[0]), kind[1]
    frames = rng.integers(0, np.iinfo(dtype).max + 1, (*size, *channels), dtype)
    write_lossless(tmp_path / "a.mkv", frames)
    assert np.array_equal(read_lossless(tmp_path / "a.mkv"), frames)
    frame = size[0] - 1
    assert np.array_equal(read_lossless(tmp_path / "a.mkv", frame=frame), frames[frame:])


@given(
    dtype=st.sampled_from(["<f2", ">f4", "f8", "u1", ">i8", "?"]),
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.sampled_from("CF"),
)
def test_numpy_files_are_restored(tmp_path, dtype, shape, order):
    array = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array)
    np.savez(tmp_path / "d.npz", data=np.array({"a": array}, dtype=object))
    found = [
        read_npy(tmp_path / "a.npy"),
        read_npz(tmp_path / "a.npz", ["a"])["a"],
        read_npz(tmp_path / "d.npz", ["a"], pickled=True)["a"],
    ]
    assert all(np.array_equal(each, array) and each.dtype == array.dtype for each in found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(names, parts, max_size=3),
    max_leaves=8,
)


@given(value=json_values, mark=st.booleans())
def test_json_is_restored_with_and_without_a_byte_order_mark(tmp_path, value, mark):
    write_json(tmp_path / "a.json", value)
    if mark:
        (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text("utf-8"), "utf-8-sig")
    assert read_json(tmp_path / "a.json") == value
    assert json.loads((tmp_path / "a.json").read_text("utf-8-sig")) == value
