import json

import numpy as np
import pytest
from PIL import Image

from fourdnex.cli import main
from fourdnex.io.lossless_video import read_lossless
from fourdnex.io.video import read_video
from fourdnex.rendering import (
    PATH_NAMES,
    CameraPath,
    OpenCVInpainter,
    novel_views,
    write_animation,
    write_novel_views,
)

WALL = (40, 120, 200)
BOX = (220, 60, 20)


def from_the_right(scene, time: float, shift: float = 0.25) -> CameraPath:
    """One camera to the right: the box moves left by 2 pixels in the image, the wall by 1."""
    pose = np.eye(4)
    pose[0, 3] = shift
    return CameraPath(camera_to_world=pose[None], intrinsics=scene.intrinsics[None], times=np.array([time]))


def test_disocclusions_are_filled_from_other_frames(moving_box):
    scene = moving_box
    (unfilled,) = novel_views(scene, from_the_right(scene, 0.5), fill=False)
    # The wall behind columns 6 to 8 projects to 5 to 7 and the box to 4 to 6, so 7 is disoccluded. Column 15 is new.
    assert np.argwhere(unfilled.inpainted).tolist() == [
        [row, column] for row in range(9) for column in ([7, 15] if 3 <= row < 6 else [15])
    ]
    assert (unfilled.image[4, 7] == 255).all() and (unfilled.image[4, 4] == BOX).all()
    (filled,) = novel_views(scene, from_the_right(scene, 0.5))
    assert np.argwhere(filled.other_frames).tolist() == [[3, 7], [4, 7], [5, 7]]
    assert (filled.image[3:6, 7] == WALL).all() and filled.depth[4, 7] == pytest.approx(4)
    assert np.argwhere(filled.inpainted).tolist() == [[row, 15] for row in range(9)]


def test_inpainter_fills_only_the_remaining_holes(moving_box):
    scene = moving_box
    (unfilled,) = novel_views(scene, from_the_right(scene, 0.5))
    (complete,) = novel_views(scene, from_the_right(scene, 0.5), inpaint=OpenCVInpainter())
    assert np.abs(complete.image[:, 15].astype(int) - WALL).max() <= 2
    assert (complete.image[~complete.inpainted] == unfilled.image[~unfilled.inpainted]).all()
    assert (complete.inpainted == unfilled.inpainted).all()


def test_view_from_the_input_camera_equals_the_frame(moving_box):
    scene = moving_box
    (view,) = novel_views(scene, from_the_right(scene, 0.5, shift=0.0))
    assert (view.image == scene.rgb[1]).all() and not view.other_frames.any() and not view.inpainted.any()


def test_mask_is_summary_next_to_the_video(tmp_path, moving_box):
    scene = moving_box
    views = list(novel_views(scene, from_the_right(scene, 0.5), zoom=2))
    summary = write_novel_views(tmp_path / "ünder way.mp4", views * 3, fps=24)
    assert summary.mask == tmp_path / "ünder way.mask.mkv" and summary.num_views == 3
    mask = read_lossless(summary.mask)
    assert mask.shape == (3, 18, 32) and (mask == 255 * views[0].inpainted).all()
    assert summary.inpainted_share == pytest.approx(views[0].inpainted.mean())
    rgb, fps = read_video(tmp_path / "ünder way.mp4")
    assert rgb.shape == (3, 18, 32, 3) and fps == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ünder way.mask.mkv", "ünder way.mp4"]


def test_animations_in_three_formats(tmp_path):
    frames = [np.full((7, 9, 3), value, np.uint8) for value in (20, 200)]
    for suffix, shape in ((".mkv", (7, 9)), (".mp4", (8, 10))):
        write_animation(tmp_path / f"a{suffix}", iter(frames), fps=10)
        rgb, fps = read_video(tmp_path / f"a{suffix}")
        assert rgb.shape == (2, *shape, 3) and fps == 10
        assert np.abs(rgb.mean((1, 2, 3)) - [20, 200]).max() < 4
    write_animation(tmp_path / "a.gif", frames, fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2 and gif.size == (9, 7) and gif.info["duration"] == 100 and gif.info["loop"] == 0
    for invalid, message in (([], "at least one"), ([frames[0], frames[0][:3]], r"\(7, 9, 3\)")):
        with pytest.raises(ValueError, match=message):
            write_animation(tmp_path / "bad.mkv", invalid, fps=10)
    with pytest.raises(ValueError, match=r"ending in \.mkv"):
        write_animation(tmp_path / "a.avi", frames, fps=10)
    assert not (tmp_path / "bad.mkv").exists()


def test_command_renders_and_reports_errors(tmp_path, capsys, moving_box):
    moving_box.save(tmp_path / "scene")
    scene, out = str(tmp_path / "scene"), tmp_path / "out.mkv"
    assert main(["render", scene, str(out), "--path", "dolly-zoom", "--num-views", "3", "--zoom", "2"]) == 0
    assert read_video(out)[0].shape == (3, 18, 32, 3) and (tmp_path / "out.mask.mkv").is_file()
    assert "3 views" in capsys.readouterr().out
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"fps": 5, "frames": [{"transform_matrix": np.diag([1, -1, -1, 1]).tolist()}] * 2}))
    for arguments, expected in (([], 5), (["--fps", "10"], 10)):
        assert main(["render", scene, str(out), "--path-file", str(file), *arguments]) == 0
        rgb, fps = read_video(out)
        assert len(rgb) == 2 and fps == expected
    capsys.readouterr()

    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"frames": [{"transform_matrix": np.diag([2.0, 2, 2, 1]).tolist()}]}))
    for options, message in (
        (["--path-file", str(bad)], "bad.json: frames[0].transform_matrix: expected a rigid matrix"),
        (["--inpaint", "magic"], "inpaint: expected 'opencv', 'none' or a folder"),
        (["--zoom", "0"], "zoom: expected a positive number"),
        (["--freeze", "2"], "times: expected values in [0, 1]"),
    ):
        assert main(["render", scene, str(tmp_path / "no.mkv"), *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["render", scene, str(tmp_path / "no.avi")]) == 2
    assert not (tmp_path / "no.mkv").exists()


def test_command_offers_every_path():
    from fourdnex.commands import COMMANDS

    hint = COMMANDS["render"].run.__annotations__["path"]
    assert hint.__origin__.__args__ == PATH_NAMES
