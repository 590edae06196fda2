"""Untrusted numpy files are read without executing code, and declared sizes are verified."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fourdnex.io.numpy_files import read_npy, read_npz

POINTS = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def save_dict(path: Path, content: object) -> Path:
    """Store a dict as `np.savez` does: in a zero-dimensional object array."""
    np.savez(path, data=np.array(content, dtype=object))
    return path


def pickled_member(path: Path, content: bytes) -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", header.getvalue() + content)
    return path


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "f8", "u1", "i8", "?"])
def test_every_numeric_dtype_is_restored(tmp_path, dtype):
    array = np.asfortranarray(POINTS.astype(dtype))
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array, other=np.zeros(3))
    save_dict(tmp_path / "d.npz", {"a": array, "b": [1, (2.5, "x")], "c": np.float32(4)})
    assert np.array_equal(read_npy(tmp_path / "a.npy"), array)
    assert np.array_equal(read_npz(tmp_path / "a.npz", ["a"])["a"], array)
    assert np.array_equal(read_npz(tmp_path / "d.npz", ["a"], pickled=True)["a"], array)


def test_a_dict_pickled_by_an_older_numpy_is_read(tmp_path):
    content = pickle.dumps(np.array({"a": POINTS}, dtype=object), protocol=3).replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )
    assert np.array_equal(read_npz(pickled_member(tmp_path / "d.npz", content), ["a"], pickled=True)["a"], POINTS)


def test_a_malicious_pickle_raises_and_is_not_executed(tmp_path):
    mark = tmp_path / "mark"
    for content in ({"a": Runs(mark)}, Runs(mark), {"a": POINTS, "b": [Runs(mark)]}):
        save_dict(tmp_path / "d.npz", content)
        with pytest.raises(ValueError, match=r"d\.npz: data\.npy: pickle rejected: .*got (posix|nt)\.system"):
            read_npz(tmp_path / "d.npz", ["a"], pickled=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"cnumpy\nndarray\n(K\x02tR.",  # a bare array of memory that nobody has written
        b"cnumpy\ndtype\n(S'V1000000'\ntR(K\x03S'|'\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbS'x'\n\x86.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3f.",  # bytes, 2**62 of them
        b"\x80\x04}",
        b"",
    ],
)
def test_other_pickles_raise(tmp_path, content):
    with pytest.raises(ValueError, match=r"d\.npz: data\.npy: (pickle rejected|expected a dict)"):
        read_npz(pickled_member(tmp_path / "d.npz", content), ["a"], pickled=True)


def test_an_object_dtype_cannot_pose_as_numeric(tmp_path):
    """Bytes that numpy takes for object pointers would crash the process."""
    good = pickle.dumps(np.array({"a": POINTS}, dtype=object), protocol=3)
    for code in (b"O8", b"V4", b"M8", b"f9"):
        content = good.replace(b"f4", code, 1)
        assert content != good
        with pytest.raises(ValueError, match=r"pickle rejected|expected an array of numbers"):
            read_npz(pickled_member(tmp_path / "d.npz", content), ["a"], pickled=True)


def test_nested_object_arrays_raise(tmp_path):
    inner = np.array({"x": 1}, dtype=object)
    several = np.array([{"x": 1}, {"y": 2}], dtype=object)
    save_dict(tmp_path / "inner.npz", {"a": inner})
    with pytest.raises(ValueError, match=r"inner\.npz: a: expected an array of numbers, got dict"):
        read_npz(tmp_path / "inner.npz", ["a"], pickled=True)
    save_dict(tmp_path / "several.npz", {"a": several})
    with pytest.raises(ValueError, match=r"expected a zero-dimensional object array, got shape \(2,\)"):
        read_npz(tmp_path / "several.npz", ["a"], pickled=True)


def test_pickles_are_read_only_on_request(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array({"x": POINTS}, dtype=object))
    np.save(tmp_path / "a.npy", np.array({"x": POINTS}, dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz: a\.npy: expected an array of numbers, got object \(\)"):
        read_npz(tmp_path / "a.npz", ["a"])
    with pytest.raises(ValueError, match=r"a\.npy: expected an array of numbers, got object \(\)"):
        read_npy(tmp_path / "a.npy")


def absurd_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(16)


@pytest.mark.parametrize("shape", [(10**9, 10**9), (5,), (3,), (-2, -2)])
def test_a_wrong_shape_raises_before_allocation(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(absurd_header(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", absurd_header(shape))
    with pytest.raises(ValueError, match=r"a\.npy: float32 .*: expected \d+ bytes, got 16"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npz: a\.npy: float32 .*: expected \d+ bytes, got 16"):
        read_npz(tmp_path / "a.npz", ["a"])


def test_an_impossible_compression_ratio_raises(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(4, np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    entry = content.index(b"PK\x01\x02")  # central directory: uncompressed size at 24
    content[entry + 24 : entry + 28] = (10**9).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: a\.npy: declares 1000000000 bytes, more than 144 compressed"):
        read_npz(tmp_path / "a.npz", ["a"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_errors_name_a_truncated_file(tmp_path, share):
    np.savez(tmp_path / "a.npz", a=POINTS, b=POINTS)
    np.save(tmp_path / "a.npy", POINTS)
    for path, read in ((tmp_path / "a.npz", lambda path: read_npz(path, ["a"])), (tmp_path / "a.npy", read_npy)):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=path.name):
            read(path)


def test_errors_name_a_damaged_file(tmp_path):
    np.savez(tmp_path / "a.npz", a=POINTS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(POINTS.tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: expected an undamaged \.npz file: Bad CRC-32"):
        read_npz(tmp_path / "a.npz", ["a"])


def test_errors_name_a_missing_array(tmp_path):
    np.savez(tmp_path / "a.npz", a=POINTS)
    with pytest.raises(ValueError, match=r"a\.npz: expected a, poses; missing: poses"):
        read_npz(tmp_path / "a.npz", ["a", "poses"])
