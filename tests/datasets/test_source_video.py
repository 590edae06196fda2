"""Video files of clips: round trips, frame selection, and errors of invalid files."""

import io
import wave

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.io.video import VideoError, read_video, write_video


def numbered_frames(count: int) -> np.ndarray:
    """Gray frames; frame t has the value 10 t."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 10, 32 * 48 * 3).reshape(count, 32, 48, 3)


def test_world_round_trips_above_38_db(tmp_path):
    rgb = render_world(100_001).rgb
    write_video(tmp_path / "world.mkv", rgb, fps=24)
    back, fps = read_video(tmp_path / "world.mkv")
    assert fps == 24 and back.shape == rgb.shape
    assert 10 * np.log10(255**2 / np.mean((back.astype(float) - rgb) ** 2)) > 38


def test_encoding_is_deterministic():
    streams = [io.BytesIO(), io.BytesIO()]
    for stream in streams:
        write_video(stream, numbered_frames(3), fps=12.5)
    assert streams[0].getvalue() == streams[1].getvalue()


def test_start_and_stride_select_frames_and_divide_the_frame_rate(tmp_path):
    write_video(tmp_path / "v.mkv", numbered_frames(12), fps=24)
    rgb, fps = read_video(tmp_path / "v.mkv", start=1, stride=3, num_frames=4)
    assert np.round(rgb.mean(axis=(1, 2, 3)) / 10).tolist() == [1, 4, 7, 10]
    assert fps == 8


def test_short_video_reports_its_length(tmp_path):
    write_video(tmp_path / "v.mkv", numbered_frames(3), fps=24)
    with pytest.raises(VideoError, match=r"v\.mkv: expected at least 17 frames, got 3"):
        read_video(tmp_path / "v.mkv", num_frames=17)


def test_text_file_raises(tmp_path):
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(VideoError, match=r"notes\.mp4: cannot be read as video"):
        read_video(tmp_path / "notes.mp4")


def test_video_without_frames_raises(tmp_path):
    (tmp_path / "empty.y4m").write_bytes(b"YUV4MPEG2 W32 H32 F24:1 Ip A1:1 C420jpeg\n")
    with pytest.raises(VideoError, match=r"empty\.y4m: (expected frames, got none|cannot be read)"):
        read_video(tmp_path / "empty.y4m")


def test_audio_file_raises(tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    with pytest.raises(VideoError, match=r"sound\.wav: expected a video stream, got none"):
        read_video(tmp_path / "sound.wav")


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        read_video(tmp_path / "missing.mp4")


def test_metadata_that_is_not_utf8_is_ignored(tmp_path):
    import av

    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        container.metadata["title"] = "Kueche"
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        frame = av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24")
        container.mux([*stream.encode(frame.reformat(format="bgr0")), *stream.encode()])
    content = (tmp_path / "v.mkv").read_bytes()
    assert b"Kueche" in content
    (tmp_path / "v.mkv").write_bytes(content.replace(b"Kueche", b"K\xfcche "))
    assert read_video(tmp_path / "v.mkv")[0].shape == (1, 32, 48, 3)
