"""Data sets from a folder of videos: splitting, resampling, cropping and failed files."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from fourdnex.annotation import AnnotationError, ClipAnnotator, annotate_shard
from fourdnex.cli import main
from fourdnex.datasets.manifest import list_shards, read_manifest
from fourdnex.datasets.shards import SourceShard
from fourdnex.datasets.videos import _clip_name_stems, _find_videos, build_from_videos
from fourdnex.io.files import read_json
from fourdnex.io.video import write_video

SIZE = {"num_frames": 5, "height": 32, "width": 48}


def numbered_frames(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Gray frames; frame t has the value 8 t."""
    return np.broadcast_to((np.arange(count, dtype=np.uint8) * 8)[:, None, None, None], (count, height, width, 3))


def numbers(rgb: np.ndarray) -> list[int]:
    return np.round(rgb.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def clips_of(out):
    shards = [SourceShard(out, shard) for shard in list_shards(out)]
    return [shard.read(name) for shard in shards for name in shard.names]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    (folder / "day 1").mkdir(parents=True)
    write_video(folder / "day 1" / "kitchen.mkv", numbered_frames(17), fps=24)
    return folder


def test_videos_are_split_into_consecutive_clips_and_the_remainder_is_dropped(folder, tmp_path):
    write_video(folder / "garden.mkv", numbered_frames(7, 64, 96), fps=10)
    (folder / "day 1" / "kitchen.txt").write_text("\ufeffA kitchen.\nThe camera\nmoves. \n", encoding="utf-8")
    report = build_from_videos(folder, tmp_path / "out", license="CC0-1.0", shard_size=3, **SIZE)
    assert (report.videos, report.clips, report.failed) == (2, 4, ())
    clips = clips_of(tmp_path / "out")
    assert [clip.name for clip in clips] == [*(f"day-1-kitchen-000{k}" for k in range(3)), "garden-0000"]
    assert [numbers(clip.rgb)[0] for clip in clips] == [0, 5, 10, 0]
    assert [clip.caption for clip in clips] == ["A kitchen. The camera moves."] * 3 + [""]
    assert [clip.fps for clip in clips] == [24, 24, 24, 10]
    assert clips[1].source == "day 1/kitchen.mkv, from 0.21 s" and clips[1].license == "CC0-1.0"
    assert {clip.rgb.shape for clip in clips} == {(5, 32, 48, 3)}
    assert list_shards(tmp_path / "out") == ["out-0000", "out-0001"]


def test_keep_ratio_keeps_the_aspect_ratio_of_each_video(tmp_path):
    """A portrait video is not cropped; a 4:1 video is center-cropped to 3:1."""
    (tmp_path / "in").mkdir()
    for name, height, width in (("portrait", 96, 64), ("strip", 40, 160), ("wide", 64, 96)):
        frames = np.zeros((5, height, width, 3), np.uint8)
        halves = {"portrait": np.s_[:, :, : width // 2], "strip": np.s_[:, :, width // 2 :], "wide": np.s_[:, ::2]}
        frames[halves[name]] = 200
        write_video(tmp_path / "in" / f"{name}.mkv", frames, fps=10)
    build_from_videos(tmp_path / "in", tmp_path / "out", keep_ratio=True, skip_static=False, **SIZE)
    clips = {clip.name[:-5]: clip.rgb for clip in clips_of(tmp_path / "out")}
    assert {name: rgb.shape[1:3] for name, rgb in clips.items()} == {
        "portrait": (48, 32),
        "strip": (23, 68),  # sqrt(32 * 48 / 3) = 22.6, times 3 = 67.9
        "wide": (32, 48),
    }
    assert clips["portrait"][0, :, :14].min() > 190 and clips["portrait"][0, :, 18:].max() < 10


def test_shards_can_be_annotated(folder, tmp_path):
    class FailingAnnotator(ClipAnnotator):
        name, version, license = "failing", "1", ""

        def annotate(self, clip):
            raise AnnotationError(f"{clip.num_frames} frames seen")

    build_from_videos(folder, tmp_path / "out", clips_per_video=2, **SIZE)
    report = annotate_shard(tmp_path / "out", "out-0000", tmp_path / "annotated", annotator=FailingAnnotator())
    assert [reason for _, reason in report.failed] == ["5 frames seen"] * 2


@pytest.mark.parametrize(("fps", "expected"), [(8, [0, 3, 6, 9, 12]), (24, [0, 1, 2, 3, 4]), (16, [0, 1, 3, 4, 6])])
def test_frames_are_resampled(folder, tmp_path, fps, expected):
    build_from_videos(folder, tmp_path / "out", fps=fps, clips_per_video=1, **SIZE)
    (clip,) = clips_of(tmp_path / "out")
    assert numbers(clip.rgb) == expected and clip.fps == fps


def test_variable_frame_rate_is_resampled_by_display_time(tmp_path):
    """Display times 0, 1, 2, 3, 4, 8, 12, 16 and 20, in units of 1/20 s."""
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for time in (0, 1, 2, 3, 4, 8, 12, 16, 20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 8 * time, np.uint8), format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    build_from_videos(tmp_path / "in", tmp_path / "out", fps=5, clips_per_video=1, **SIZE)
    (clip,) = clips_of(tmp_path / "out")
    assert numbers(clip.rgb) == [0, 4, 8, 12, 16]


def test_frames_are_center_cropped_and_area_averaged(tmp_path):
    """64x160 to 32x48: the central 96 of 160 columns, averaged over 2x2 pixels."""
    rgb = np.zeros((5, 64, 160, 3), np.uint8)
    rgb[:, :, 32:128] = 100
    rgb[:, ::2, 32:128] = 200
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mkv", rgb, fps=24, crf=1)
    build_from_videos(tmp_path / "in", tmp_path / "out", skip_static=False, **SIZE)
    (clip,) = clips_of(tmp_path / "out")
    assert np.abs(clip.rgb[:, :, 2:-2].astype(int) - 150).max() <= 6


@pytest.mark.parametrize(
    ("degrees", "mirrored", "corner"),
    [(0, False, (0, 0)), (90, False, (1, 0)), (-90, False, (0, 1)), (180, False, (1, 1)), (0, True, (0, 1))],
)
def test_display_rotation_is_applied(tmp_path, degrees, mirrored, corner):
    """The bright corner is top left in the file, and bottom left after a rotation by 90 degrees counterclockwise."""
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24] = 240
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.set_display_rotation(degrees, hflip=mirrored)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    shape = (48, 32) if degrees in (90, -90) else (32, 48)
    build_from_videos(
        tmp_path / "in", tmp_path / "out", num_frames=5, height=shape[0], width=shape[1], skip_static=False
    )
    (clip,) = clips_of(tmp_path / "out")
    quarters = clip.rgb[0].reshape(2, shape[0] // 2, 2, shape[1] // 2, 3).mean(axis=(1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner and quarters.max() > 200
    assert np.sort(quarters.ravel())[-2] < 40


def test_failed_videos_are_reported_and_the_others_are_read(folder, tmp_path, capsys):
    write_video(folder / "short.mkv", numbered_frames(3), fps=24)
    (folder / "broken.mp4").write_bytes(bytes(1000))
    (folder / "notes.md").write_text("no video")
    (folder / ".hidden.mkv").write_text("no video")
    write_video(folder / "latin.mkv", numbered_frames(5), fps=24)
    (folder / "latin.txt").write_bytes(b"K\xfcche")
    sizes = ["--num-frames", "5", "--height", "32", "--width", "48"]
    assert main(["videos", str(folder), str(tmp_path / "out"), *sizes]) == 0
    output = capsys.readouterr()
    assert "out: 4 clips" in output.out and "4 videos" in output.out
    assert "warning: latin.txt: expected UTF-8" in output.err
    assert "failed: broken.mp4: cannot be read as video" in output.err
    reasons = {entry["file"]: entry["reason"] for entry in read_json(tmp_path / "out" / "failed.json")}
    assert list(reasons) == ["broken.mp4", "short.mkv"]
    assert reasons["short.mkv"] == "expected at least 5 frames at 24 fps, found 3"


def test_clips_before_an_error_are_included(tmp_path):
    (tmp_path / "in").mkdir()
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), number, np.uint8), format="rgb24")
            frame.pts = number if number < 8 else number + 24 * 60
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    (tmp_path / "in" / "a.mkv").write_bytes(content.getvalue())
    report = build_from_videos(tmp_path / "in", tmp_path / "out", fps=24, **SIZE)
    reason = "timestamps: expected frames at most 10 s apart, got 60 s (clips included from before the error: 1)"
    assert report.clips == 1 and report.failed == (("a.mkv", reason),)


def test_clip_names_are_safe_and_unique():
    stems = _clip_name_stems(["A.mov", "a b/ü.mp4", "a.mp4", "a/b.mp4", "a b/u.mp4", "日本.mp4", "x" * 200 + ".mp4"])
    assert list(stems.values()) == ["A", "a-b-u", "a-2", "a-b", "a-b-u-2", "video", "x" * 80]


def test_folders_are_searched_in_path_order(folder):
    for file in ("b.MOV", "a.mp4", "b.SRT", "day 1/.trash/c.mp4"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    assert list(_find_videos(folder)) == ["a.mp4", "b.MOV", "day 1/kitchen.mkv"]


def test_links_are_followed_and_broken_links_reported(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write_video(tmp_path / "elsewhere" / "garden.mkv", numbered_frames(5), fps=24)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "day 1" / "up").symlink_to(folder)
    (folder / "missing.mp4").symlink_to("nowhere.mp4")
    report = build_from_videos(folder, tmp_path / "out", **SIZE)
    assert report.failed == (("missing.mp4", "broken link to nowhere.mp4"),)
    assert [clip.source.split(",")[0] for clip in clips_of(tmp_path / "out")][-1] == "linked/garden.mkv"
    assert report.clips == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 16}, "num_frames: expected 4k\\+1, got 16; the nearest valid number is 17"),
        ({"height": 8}, "height: expected at least 16, got 8"),
        ({"clips_per_video": 0}, "clips_per_video: expected at least 1, got 0"),
        ({"fps": 0}, "fps: expected a positive number, got 0"),
        (
            {"num_frames": 49},
            "in: expected at least one video that yields a clip, found none; day 1/kitchen.mkv: expected at least",
        ),
    ],
)
def test_invalid_arguments_raise_and_write_nothing(folder, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build_from_videos(folder, tmp_path / "out", **SIZE | change)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_empty_missing_and_occupied_folders_raise(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: expected videos, found none"):
        build_from_videos(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="none: expected a folder of videos"):
        build_from_videos(tmp_path / "none", tmp_path / "out")
    with pytest.raises(FileExistsError, match="in: expected no such folder, or an empty one"):
        build_from_videos(folder, folder)


def textured(seed: int, count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames [T, H, W, 3] of a random pattern that moves by a pixel per frame."""
    rng = np.random.default_rng(seed)
    pattern = rng.integers(40, 255, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(pattern, t, axis=1) for t in range(count)])


def test_clips_end_at_cuts_and_know_their_video_shot_and_time(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mkv", np.concatenate([textured(0, 8), textured(1, 11)]), fps=10)
    report = build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5)
    clips = clips_of(tmp_path / "out")
    assert report.clips == 3 and [clip.shot for clip in clips] == [0, 1, 1]
    assert [clip.start for clip in clips] == pytest.approx([0, 0.8, 1.3])
    assert {clip.video for clip in clips} == {"a"} and len(clips[0].source_sha256) == 64
    build_from_videos(tmp_path / "in", tmp_path / "whole", num_frames=5, find_cuts=False)
    assert [clip.start for clip in clips_of(tmp_path / "whole")] == pytest.approx([0, 0.5, 1.0])


def test_black_bars_are_cropped_but_not_dark_images(tmp_path):
    (tmp_path / "in").mkdir()
    boxed = np.zeros((5, 64, 64, 3), np.uint8)
    boxed[:, 8:56] = textured(0, 5)
    write_video(tmp_path / "in" / "boxed.mkv", boxed, fps=10)
    write_video(tmp_path / "in" / "night.mkv", boxed // 16, fps=10)
    build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5)
    sizes = {clip.video: clip.rgb.shape[1:3] for clip in clips_of(tmp_path / "out")}
    assert sizes == {"boxed": (48, 64), "night": (64, 64)}


def test_static_and_duplicate_windows_are_skipped_and_counted(tmp_path):
    (tmp_path / "in").mkdir()
    moving = textured(0, 5)
    write_video(tmp_path / "in" / "a.mkv", np.concatenate([moving, moving[-1:].repeat(5, axis=0)]), fps=10)
    write_video(tmp_path / "in" / "b.mkv", moving // 2 + 60, fps=10)
    write_video(tmp_path / "in" / "c.mkv", textured(2, 5), fps=10)
    report = build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5)
    assert report.skipped == {"static": 1, "near-duplicate": 1} == read_json(tmp_path / "out" / "skipped.json")
    assert [clip.name for clip in clips_of(tmp_path / "out")] == ["a-0000", "c-0000"]


def test_a_rate_above_the_videos_own_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="fps: expected at most the video's own rate of 24, got 48"):
        build_from_videos(folder, tmp_path / "out", fps=48, **SIZE)


def test_larger_videos_are_scaled_down_whole(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mkv", textured(0, 5, 64, 128), fps=10)
    build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5, max_size=96)
    assert [clip.rgb.shape for clip in clips_of(tmp_path / "out")] == [(5, 48, 96, 3)]


def test_clips_of_a_video_stand_in_one_shard(tmp_path):
    (tmp_path / "in").mkdir()
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        write_video(tmp_path / "in" / f"{name}.mkv", textured(seed, 10), fps=10)
    build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5, shard_size=3, name="my set")
    manifest = read_manifest(tmp_path / "out")
    assert dict(zip(manifest["name"], manifest["shard"], strict=True)) == {
        "a-0000": "my-set-0000",
        "a-0001": "my-set-0000",
        "b-0000": "my-set-0000",
        "b-0001": "my-set-0000",
        "c-0000": "my-set-0001",
        "c-0001": "my-set-0001",
    }


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("mpegts", "libx264"), ("mpegts", "mpeg2video")])
def test_damaged_streams_fail_and_give_no_damaged_clip(tmp_path, container, codec):
    """The decoder conceals damage with green or with what it has: only clips from before it are included."""
    frames = textured(0, 60, 96, 128)
    content = io.BytesIO()
    with av.open(content, "w", format=container) as output:
        stream = output.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.options = 128, 96, "yuv420p", {"g": "12"}
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
    data = bytearray(content.getvalue())
    for position in np.random.default_rng(0).integers(len(data) // 2, 3 * len(data) // 4, 40):
        data[position] ^= 0xFF
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.video").write_bytes(data)
    write_video(tmp_path / "in" / "b.mkv", textured(1, 5), fps=24)
    report = build_from_videos(tmp_path / "in", tmp_path / "out", num_frames=5)
    assert [file for file, _ in report.failed] == ["a.video"]
    for clip in clips_of(tmp_path / "out"):
        if clip.video == "a":
            first = round(clip.start * 24)
            error = np.abs(clip.rgb.astype(int) - frames[first : first + 5].astype(int)).mean(axis=(1, 2, 3))
            assert error.max() < 25


def write_images(folder, images, name="frame_{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=8):
        Image.fromarray(image).save(folder / name.format(number))


def test_numbered_images_are_one_video(tmp_path):
    """Numbers without leading zeros are ordered as numbers; another image in the folder is a file of its own."""
    write_images(tmp_path / "in" / "walk", numbered_frames(11))
    (tmp_path / "in" / "walk.txt").write_text("A walk.")
    Image.fromarray(numbered_frames(2)[1]).save(tmp_path / "in" / "walk" / "cover.png")
    report = build_from_videos(tmp_path / "in", tmp_path / "out", fps=10, **SIZE)
    first, second = clips_of(tmp_path / "out")
    assert numbers(first.rgb) == [0, 1, 2, 3, 4] and numbers(second.rgb) == [5, 6, 7, 8, 9]
    assert (second.name, second.video, second.fps, second.start) == ("walk-frame-0001", "walk-frame", 10, 0.5)
    assert first.caption == "A walk." and second.source == "walk/frame_*.png, from 0.50 s"
    assert [file for file, _ in report.failed] == ["walk/cover.png"]


def test_an_image_of_another_size_ends_its_sequence(tmp_path, capsys):
    images = [*numbered_frames(6), numbered_frames(2, 48, 32)[1]]
    write_images(tmp_path / "in" / "walk", images)
    report = build_from_videos(tmp_path / "in", tmp_path / "out", **SIZE)
    assert report.clips == 1 and report.failed == (
        ("walk/frame_*.png", "frame_14.png: expected 48x32 pixels as the first image, got 32x48 "
         "(clips included from before the error: 1)"),
    )  # fmt: skip


def test_animated_gifs_are_videos(tmp_path):
    """Frames of different durations, resampled by their display time."""
    (tmp_path / "in").mkdir()
    frames = [Image.fromarray(frame) for frame in numbered_frames(6)]
    durations = [100, 100, 300, 100, 100, 100]
    frames[0].save(tmp_path / "in" / "wave.gif", save_all=True, append_images=frames[1:], duration=durations)
    build_from_videos(tmp_path / "in", tmp_path / "out", fps=7, **SIZE)
    (clip,) = clips_of(tmp_path / "out")
    assert numbers(clip.rgb) == [0, 1, 2, 2, 4] and clip.fps == 7
