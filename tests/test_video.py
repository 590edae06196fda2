import numpy as np
import pytest

from fourdnex.video import read_lossless, write_lossless


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 33, 47, 3), np.uint8),
        ((2, 1, 1, 3), np.uint8),
        ((2, 2, 1), np.uint16),
        ((3, 33, 47), np.uint16),
        ((3, 33, 47), np.uint8),
    ],
)
def test_every_value_comes_back(tmp_path, shape, dtype):
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    write_lossless(tmp_path / "a.mkv", frames, fps=23.976)
    back = read_lossless(tmp_path / "a.mkv")
    assert back.dtype == dtype and (back == frames).all()


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mkv"):
        read_lossless(tmp_path / "text.mkv")
    with pytest.raises(FileNotFoundError, match=r"none\.mkv"):
        read_lossless(tmp_path / "none.mkv")


def test_other_arrays_are_refused(tmp_path):
    for frames in (np.zeros((2, 4, 4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8), np.zeros((2, 4, 4), np.float32)):
        with pytest.raises(ValueError, match="frames"):
            write_lossless(tmp_path / "a.mkv", frames)
