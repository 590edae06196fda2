"""Colors and tags of written H.264: expected values derived by hand from ITU-R BT.709."""

import av
import numpy as np
import pytest

from fourdnex.io.h264 import rgb_to_yuv
from fourdnex.io.video import read_video, write_video
from fourdnex.rendering import write_animation


def test_bt709_by_hand():
    # Y = 16 + 219 (.2126 R + .7152 G + .0722 B), Cb = 128 + 224 (B - Y) / 1.8556, Cr = 128 + 224 (R - Y) / 1.5748
    colors = {
        (0, 0, 0): (16, 128, 128),
        (255, 255, 255): (235, 128, 128),
        (30, 200, 30): (146, 70, 60),
        (255, 0, 0): (63, 102, 240),
        (0, 0, 255): (32, 240, 118),
        (128, 128, 128): (126, 128, 128),
    }
    assert {rgb: tuple(rgb_to_yuv(np.array([[rgb]], np.uint8))[:, 0, 0].tolist()) for rgb in colors} == colors


def test_every_color_is_rounded_correctly():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    red, green, blue = np.moveaxis(rgb / 255.0, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    assert np.abs(rgb_to_yuv(rgb) - np.stack(expected)).max() < 0.51


def test_gray_has_neutral_chroma():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    assert (rgb_to_yuv(gray)[1:] == 128).all()


@pytest.mark.parametrize("name", ["clip.mkv", "render.mkv", "render.mp4"])
def test_streams_are_tagged_as_bt709(tmp_path, name):
    frames = np.full((3, 32, 48, 3), (30, 200, 30), np.uint8)
    if name.startswith("clip"):
        write_video(tmp_path / name, frames, fps=24)
    else:
        write_animation(tmp_path / name, frames, fps=24)
    with av.open(str(tmp_path / name)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        frame = next(container.decode(video=0))
    assert tags == (1, 1, 1, 1)  # BT.709 three times, limited range
    assert frame.to_ndarray().reshape(-1)[0] == 146
    assert np.abs(read_video(tmp_path / name)[0].astype(int) - frames).max() <= 2


def test_untagged_videos_are_read_as_bt601(tmp_path):
    """Clips of earlier versions are untagged BT.601: green has Y 127, not 146."""
    rgb = np.full((32, 48, 3), (30, 200, 30), np.uint8)
    with av.open(str(tmp_path / "stored.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "stored.mkv")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.to_ndarray()[0, 0, 0]) == (2, 127)
    assert np.abs(read_video(tmp_path / "stored.mkv")[0][0].astype(int) - rgb).max() <= 2
