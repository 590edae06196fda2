"""Videos are read as they are displayed: colors, pixel aspect ratio, rotation, deinterlacing."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from fourdnex.datasets.manifest import read_manifest
from fourdnex.datasets.shards import SourceShard
from fourdnex.datasets.videos import build_from_videos
from fourdnex.io.color import BT709, BT2020, HLG, PQ
from fourdnex.io.video import VideoError, read_video, write_video

HEIGHT, WIDTH = 32, 48
LIMITED, FULL = 1, 2


def write(path, frames, *, codec="ffv1", rate=24, pixel_format, source=None, aspect=None, tags=None, options=None):
    """Store arrays of pixel format `source` (default: `pixel_format`) with tags, without converting colors."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        first = av.VideoFrame.from_ndarray(frames[0], format=source or pixel_format)
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, pixel_format
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for array in frames:
            frame = av.VideoFrame.from_ndarray(array, format=source or pixel_format)
            for name in {"colorspace", "color_range"} & set(tags or {}):
                setattr(frame, name, tags[name])
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode())


def uniform_frame(y, cb, cr, dtype=np.uint8):
    """A Y'CbCr 4:4:4 frame of one color: 8 bits [3, H, W], 16 bits [H, W, 3]."""
    planes = np.empty((3, HEIGHT, WIDTH), dtype)
    planes[:] = np.array([y, cb, cr], dtype)[:, None, None]
    return planes if dtype == np.uint8 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def decoded_color(path):
    rgb, _ = read_video(path)
    assert rgb.dtype == np.uint8 and np.ptp(rgb.reshape(-1, 3).astype(int), axis=0).max() == 0
    return rgb[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("transfer", "luma", "expected"),
    [
        # 10 bits, limited range: 64 + 876 * signal. Diffuse white is at 58 % in PQ and 75 % in HLG, gray at 38 %.
        (PQ, 572, 251),
        (HLG, 721, 251),
        (PQ, 397, 100),
        (HLG, 397, 101),
    ],
)
def test_diffuse_white_of_hdr_becomes_white(tmp_path, transfer, luma, expected):
    frames = [uniform_frame(luma << 6, 512 << 6, 512 << 6, np.uint16)]
    tags = {"colorspace": BT2020, "color_range": LIMITED, "color_primaries": BT2020, "color_trc": transfer}
    write(tmp_path / "a.mkv", frames, pixel_format="yuv444p10le", source="yuv444p16le", tags=tags)
    assert max(abs(value - expected) for value in decoded_color(tmp_path / "a.mkv")) <= 2


def test_hdr_colors_are_converted(tmp_path):
    """sRGB (200, 70, 50) is light (.5776, .0612, .0319); in BT.2020 (.3839, .0966, .0434), with white at 203 cd/m2
    PQ (.4833, .3553, .2898), and Y'CbCr (.3850, -.0506, .0666): 401, 467 and 572 of ten bits."""
    frames = [uniform_frame(401 << 6, 467 << 6, 572 << 6, np.uint16)]
    tags = {"colorspace": BT2020, "color_range": LIMITED, "color_primaries": BT2020, "color_trc": PQ}
    write(tmp_path / "a.mkv", frames, pixel_format="yuv444p10le", source="yuv444p16le", tags=tags)
    assert np.abs(np.array(decoded_color(tmp_path / "a.mkv")) - (200, 70, 50)).max() <= 3


@pytest.mark.parametrize(
    ("tags", "yuv"),
    [
        # (30, 200, 30) in each matrix: Y = kr R + kg G + kb B, Cb = (B - Y) / (2 - 2 kb), Cr = (R - Y) / (2 - 2 kr).
        ({"colorspace": BT709, "color_range": LIMITED}, (146, 70, 60)),
        ({"colorspace": 6, "color_range": LIMITED}, (127, 79, 65)),
        ({"colorspace": BT2020, "color_range": LIMITED}, (141, 74, 59)),
        ({"colorspace": BT709, "color_range": FULL}, (152, 62, 51)),
        ({}, (127, 79, 65)),
    ],
)
def test_matrix_and_range_follow_the_tags(tmp_path, tags, yuv):
    write(tmp_path / "a.mkv", [uniform_frame(*yuv)], pixel_format="yuv444p", tags=tags)
    assert np.abs(np.array(decoded_color(tmp_path / "a.mkv")) - (30, 200, 30)).max() <= 3


def test_10_bit_white_is_white(tmp_path):
    frames = [uniform_frame(940 << 6, 512 << 6, 512 << 6, np.uint16)]
    write(tmp_path / "a.mkv", frames, pixel_format="yuv420p10le", source="yuv444p16le")
    assert decoded_color(tmp_path / "a.mkv") == [255, 255, 255]


def test_untagged_videos_decode_as_ffmpeg_decodes_them(tmp_path):
    """Clips written by earlier versions: x264, 4:4:4, converted by FFmpeg, untagged."""
    rgb = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    write(tmp_path / "a.mkv", list(rgb), codec="libx264", pixel_format="yuv444p", source="rgb24", options={"crf": "1"})
    with av.open(str(tmp_path / "a.mkv")) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(read_video(tmp_path / "a.mkv")[0], np.stack(expected))


def test_unsupported_colors_raise(tmp_path):
    write(tmp_path / "log.mkv", [uniform_frame(100, 128, 128)], pixel_format="yuv444p", tags={"color_trc": 9})
    with pytest.raises(VideoError, match=r"log\.mkv: transfer: expected SDR, linear light, PQ or HLG, got code 9"):
        read_video(tmp_path / "log.mkv")
    write(tmp_path / "ycgco.mkv", [uniform_frame(100, 128, 128)], pixel_format="yuv444p", tags={"colorspace": 8})
    with pytest.raises(VideoError, match=r"ycgco\.mkv: color: expected RGB, or YCbCr .* got matrix coefficients 8"):
        read_video(tmp_path / "ycgco.mkv")


@pytest.mark.parametrize(("aspect", "shape"), [("2/1", (32, 96)), ("1/2", (32, 24)), ("16/15", (32, 51))])
def test_pixels_are_made_square(tmp_path, aspect, shape):
    """A vertical edge stays at the same fraction of the width."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:, WIDTH // 4 :] = 200
    write(tmp_path / "a.mp4", [rgb], codec="libx264", pixel_format="yuv420p", source="rgb24", aspect=aspect)
    pixels, _ = read_video(tmp_path / "a.mp4")
    assert pixels.shape == (1, *shape, 3)
    assert abs((pixels[0, 16, :, 0] < 100).sum() - shape[1] / 4) <= 1


def test_a_disc_stays_round_in_a_clip(tmp_path):
    """A disc with a diameter of 48 square pixels, stored as 24x48 pixels that are twice as wide as high."""
    (tmp_path / "in").mkdir()
    y, x = np.mgrid[:64, :48]
    disc = np.where((y - 31.5) ** 2 + (2 * (x - 23.5)) ** 2 < 24**2, 200, 0).astype(np.uint8)
    rgb = disc[..., None].repeat(3, 2)
    write(tmp_path / "in/a.mp4", [rgb] * 5, codec="libx264", pixel_format="yuv420p", source="rgb24", aspect="2/1")
    build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5, height=64, width=96, skip_static=False)
    clip = SourceShard(tmp_path / "out", read_manifest(tmp_path / "out")["shard"][0]).read("a-0000")
    visible = clip.rgb[0, ..., 0] > 100
    assert abs(visible.any(axis=0).sum() - 48) <= 2 and abs(visible.any(axis=1).sum() - 48) <= 2


def test_interlaced_frames_are_deinterlaced(tmp_path):
    """A bar moves 4 pixels per field, so neighboring rows of an interlaced frame are 4 pixels apart."""
    frames = []
    for t in range(6):
        rgb = np.zeros((64, 96, 3), np.uint8)
        rgb[0::2, 8 + 8 * t : 24 + 8 * t] = 200
        rgb[1::2, 12 + 8 * t : 28 + 8 * t] = 200
        frames.append(rgb)
    options = {"flags": "+ilme+ildct", "crf": "5", "x264-params": "tff=1"}
    for name, given in (("interlaced", options), ("progressive", {"crf": "5"})):
        path = tmp_path / f"{name}.mkv"
        write(path, frames, codec="libx264", pixel_format="yuv444p", source="rgb24", options=given)
    combed, _ = read_video(tmp_path / "progressive.mkv")
    rgb, rate = read_video(tmp_path / "interlaced.mkv")
    assert rgb.shape == combed.shape and rate == 24

    def row_difference(video):
        return np.abs(np.diff(video.astype(int), axis=1)).mean()

    assert row_difference(rgb) < 0.15 * row_difference(combed)
    edges = np.array([np.flatnonzero(frame[32, :, 0] > 100)[0] for frame in rgb])
    assert min(np.abs(edges - (field + 8 * np.arange(6))).max() for field in (8, 12)) <= 1, (
        "one field per frame, in order"
    )


def test_deinterlaced_frames_keep_their_timestamps(tmp_path):
    (tmp_path / "in").mkdir()
    frames = [np.full((64, 96, 3), 10 * t, np.uint8) for t in range(20)]
    options = {"flags": "+ilme+ildct", "crf": "5", "x264-params": "tff=1"}
    write(tmp_path / "in/a.mkv", frames, codec="libx264", pixel_format="yuv444p", source="rgb24", options=options)
    build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5, height=32, width=48, fps=8, clips_per_video=1)
    clip = SourceShard(tmp_path / "out", read_manifest(tmp_path / "out")["shard"][0]).read("a-0000")
    assert np.round(clip.rgb.mean(axis=(1, 2, 3)) / 10).astype(int).tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("is_attachment", [True, False])
def test_cover_images_are_ignored(tmp_path, is_attachment):
    """Matroska stores a cover as an attachment; tools that copy streams write it as a track of one image."""
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "cover.jpg")
    cover = (tmp_path / "cover.jpg").read_bytes()
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        if is_attachment:
            container.add_attachment("cover.jpg", "image/jpeg", cover)
        else:
            first = container.add_stream("mjpeg", rate=1)
            first.width, first.height, first.pix_fmt = 64, 64, "yuvj420p"
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        if not is_attachment:
            container.mux(first.encode(av.VideoFrame.from_image(Image.open(tmp_path / "cover.jpg"))))
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    rgb, _ = read_video(tmp_path / "a.mkv")
    assert rgb.shape == (3, HEIGHT, WIDTH, 3) and (rgb == 90).all()


def test_a_change_of_the_aspect_ratio_ends_the_video(tmp_path):
    """Two raw H.264 streams, concatenated."""
    contents = []
    for height, width in ((32, 48), (48, 48)):
        path = tmp_path / f"{height}.h264"
        frames = [np.full((height, width, 3), 100, np.uint8)] * 8
        write(path, frames, codec="libx264", pixel_format="yuv420p", source="rgb24")
        contents.append(path.read_bytes())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.h264").write_bytes(b"".join(contents))
    report = build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5, height=32, width=48, skip_static=False)
    ((_, reason),) = report.failed
    assert reason.startswith("expected frames of one aspect ratio, 1.50, got one of 1.00 (width / height)")
    assert report.clips == 1


@pytest.mark.parametrize("relative", [True, False])
def test_file_names_may_contain_colons(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    name = "take:1.mkv" if relative else tmp_path / "take:1.mkv"
    rgb = np.full((3, HEIGHT, WIDTH, 3), 90, np.uint8)
    write_video(name, rgb, fps=24)
    assert os.listdir(tmp_path) == ["take:1.mkv"]
    assert np.abs(read_video(name)[0].astype(int) - 90).max() <= 1
