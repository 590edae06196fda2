import numpy as np
import pytest

from fourdnex.io.lossless_video import read_lossless, write_lossless


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
def test_values_are_restored_exactly(tmp_path, shape, dtype):
    frames = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    write_lossless(tmp_path / "a.mkv", frames, fps=23.976)
    back = read_lossless(tmp_path / "a.mkv")
    assert back.dtype == dtype and (back == frames).all()


def test_errors_name_unreadable_files(tmp_path):
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mkv"):
        read_lossless(tmp_path / "text.mkv")
    with pytest.raises(FileNotFoundError, match=r"none\.mkv"):
        read_lossless(tmp_path / "none.mkv")


def test_other_arrays_raise(tmp_path):
    for frames in (np.zeros((2, 4, 4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8), np.zeros((2, 4, 4), np.float32)):
        with pytest.raises(ValueError, match="frames"):
            write_lossless(tmp_path / "a.mkv", frames)


@pytest.mark.parametrize("fps", [8, 12.5, 23.976, 24, 29.97, 60])
def test_one_frame_can_be_read_alone(tmp_path, fps):
    frames = np.arange(7, dtype=np.uint16)[:, None, None] + np.zeros((1, 20, 24), np.uint16)
    write_lossless(tmp_path / "a.mkv", frames, fps=fps)
    for t in range(7):
        assert (read_lossless(tmp_path / "a.mkv", frame=t) == frames[t : t + 1]).all()
    for t in (-1, 7):
        with pytest.raises(IndexError, match=f"no frame {t}"):
            read_lossless(tmp_path / "a.mkv", frame=t)


def test_one_frame_is_decoded_without_its_neighbors(tmp_path):
    import av

    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 48), dtype=np.uint8)
    path = tmp_path / "a.mkv"
    write_lossless(path, frames)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for t in (1, 3):
        place, size = packets[t]
        data[place + 20 : place + size - 20] = bytes(size - 40)
    path.write_bytes(data)
    for t in (0, 2):
        assert (read_lossless(path, frame=t) == frames[t : t + 1]).all()
