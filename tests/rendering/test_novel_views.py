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


def aside(scene, time: float, shift: float = 0.25) -> CameraPath:
    """One camera to the right: the box goes 2 pixels to the left in the image, the wall 1."""
    pose = np.eye(4)
    pose[0, 3] = shift
    return CameraPath(camera_to_world=pose[None], intrinsics=scene.intrinsics[None], times=np.array([time]))


def test_holes_show_the_wall_that_other_frames_saw(passing_box):
    scene = passing_box
    (bare,) = novel_views(scene, aside(scene, 0.5), fill=False)
    # The wall behind columns 6 to 8 would be at 5 to 7; the box is at 4 to 6, so 7 opens. Column 15 is new.
    assert np.argwhere(bare.invented).tolist() == [
        [row, column] for row in range(9) for column in ([7, 15] if 3 <= row < 6 else [15])
    ]
    assert (bare.image[4, 7] == 255).all() and (bare.image[4, 4] == BOX).all()
    (full,) = novel_views(scene, aside(scene, 0.5))
    assert np.argwhere(full.borrowed).tolist() == [[3, 7], [4, 7], [5, 7]]
    assert (full.image[3:6, 7] == WALL).all() and full.depth[4, 7] == pytest.approx(4)
    assert np.argwhere(full.invented).tolist() == [[row, 15] for row in range(9)]


def test_an_inpainter_invents_the_rest_and_nothing_else(passing_box):
    scene = passing_box
    (bare,) = novel_views(scene, aside(scene, 0.5))
    (whole,) = novel_views(scene, aside(scene, 0.5), inpaint=OpenCVInpainter())
    assert np.abs(whole.image[:, 15].astype(int) - WALL).max() <= 2
    assert (whole.image[~whole.invented] == bare.image[~bare.invented]).all()
    assert (whole.invented == bare.invented).all()


def test_a_view_from_the_input_camera_borrows_and_invents_nothing(passing_box):
    scene = passing_box
    (view,) = novel_views(scene, aside(scene, 0.5, shift=0.0))
    assert (view.image == scene.rgb[1]).all() and not view.borrowed.any() and not view.invented.any()


def test_the_mask_lies_beside_the_video(tmp_path, passing_box):
    scene = passing_box
    views = list(novel_views(scene, aside(scene, 0.5), zoom=2))
    written = write_novel_views(tmp_path / "ünder way.mp4", views * 3, fps=24)
    assert written.mask == tmp_path / "ünder way.mask.mkv" and written.num_views == 3
    mask = read_lossless(written.mask)
    assert mask.shape == (3, 18, 32) and (mask == 255 * views[0].invented).all()
    assert written.invented == pytest.approx(views[0].invented.mean())
    rgb, fps = read_video(tmp_path / "ünder way.mp4")
    assert rgb.shape == (3, 18, 32, 3) and fps == 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ünder way.mask.mkv", "ünder way.mp4"]


def test_images_move_in_three_formats(tmp_path):
    frames = [np.full((7, 9, 3), value, np.uint8) for value in (20, 200)]
    for suffix, shape in ((".mkv", (7, 9)), (".mp4", (8, 10))):
        write_animation(tmp_path / f"a{suffix}", iter(frames), fps=10)
        rgb, fps = read_video(tmp_path / f"a{suffix}")
        assert rgb.shape == (2, *shape, 3) and fps == 10
        assert np.abs(rgb.mean((1, 2, 3)) - [20, 200]).max() < 4
    write_animation(tmp_path / "a.gif", frames, fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2 and gif.size == (9, 7) and gif.info["duration"] == 100 and gif.info["loop"] == 0
    for bad, said in (([], "at least one"), ([frames[0], frames[0][:3]], r"\(7, 9, 3\)")):
        with pytest.raises(ValueError, match=said):
            write_animation(tmp_path / "bad.mkv", bad, fps=10)
    with pytest.raises(ValueError, match=r"ends in \.mkv"):
        write_animation(tmp_path / "a.avi", frames, fps=10)
    assert not (tmp_path / "bad.mkv").exists()


def test_the_command_renders_and_says_what_is_wrong(tmp_path, capsys, passing_box):
    passing_box.save(tmp_path / "scene")
    scene, out = str(tmp_path / "scene"), tmp_path / "out.mkv"
    assert main(["render", scene, str(out), "--path", "dolly-zoom", "--num-views", "3", "--zoom", "2"]) == 0
    assert read_video(out)[0].shape == (3, 18, 32, 3) and (tmp_path / "out.mask.mkv").is_file()
    assert "3 views" in capsys.readouterr().out
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"fps": 5, "frames": [{"transform_matrix": np.diag([1, -1, -1, 1]).tolist()}] * 2}))
    for told, expected in (([], 5), (["--fps", "10"], 10)):
        assert main(["render", scene, str(out), "--path-file", str(file), *told]) == 0
        rgb, fps = read_video(out)
        assert len(rgb) == 2 and fps == expected
    capsys.readouterr()

    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"frames": [{"transform_matrix": np.diag([2.0, 2, 2, 1]).tolist()}]}))
    for options, said in (
        (["--path-file", str(bad)], "bad.json: frames[0].transform_matrix: expected a rigid matrix"),
        (["--inpaint", "magic"], "inpaint: expected 'opencv', 'none' or a folder"),
        (["--zoom", "0"], "zoom: expected a positive number"),
        (["--freeze", "2"], "times: expected values in [0, 1]"),
    ):
        assert main(["render", scene, str(tmp_path / "no.mkv"), *options]) == 2
        assert said in capsys.readouterr().err
    assert main(["render", scene, str(tmp_path / "no.avi")]) == 2
    assert not (tmp_path / "no.mkv").exists()


def test_the_command_knows_every_path():
    from fourdnex.commands import COMMANDS

    hint = COMMANDS["render"].run.__annotations__["path"]
    assert hint.__origin__.__args__ == PATH_NAMES
