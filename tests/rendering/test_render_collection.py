"""Videos of a folder of scenes: cached, rendered again when a scene changes, removed with their scene."""

import shutil
from dataclasses import replace

import av
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.rendering.render_collection import ViewSettings, render_collection
from fourdnex.scene import Scene4D

SETTINGS = ViewSettings(num_views=4, zoom=1.0)


def world_scene(seed: int) -> Scene4D:
    clip = render_world(seed, num_frames=3, height=32, width=48)
    return Scene4D(
        rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world, fps=12
    )


def test_videos_are_updated_with_their_scenes(tmp_path):
    scenes, out = tmp_path / "scenes", tmp_path / "views"
    world_scene(1).save(scenes / "first")
    world_scene(2).save(scenes / "second")
    report = render_collection(scenes, out, SETTINGS)
    assert (report.requested, report.done, report.cached, report.failed) == (2, 2, 0, ())
    assert 0 <= report.inpainted_share < 0.5
    with av.open(str(out / "first" / "swing.mp4")) as video:
        frames = list(video.decode(video=0))
    assert (len(frames), frames[0].height, frames[0].width) == (4, 32, 48)
    assert sorted(path.name for path in (out / "first").iterdir()) == [
        "rendered.json",
        "swing.mask.mkv",
        "swing.mp4",
        "swing.png",
    ]
    replace(world_scene(2), fps=6).save(scenes / "second")
    shutil.rmtree(scenes / "first")
    world_scene(3).save(scenes / "third")
    again = render_collection(scenes, out, SETTINGS)
    assert (again.done, again.cached) == (2, 0)
    assert sorted(path.name for path in out.iterdir()) == ["second", "third"]
    assert render_collection(scenes, out, SETTINGS).cached == 2


def test_damaged_scene_fails_and_others_are_rendered(tmp_path):
    for name in "ab":
        world_scene(1).save(tmp_path / "scenes" / name)
    (tmp_path / "scenes" / "a" / "depth.mkv").write_bytes(b"")
    report = render_collection(tmp_path / "scenes", tmp_path / "views", SETTINGS)
    assert report.done == 1
    ((name, reason),) = report.failed
    assert name == "a" and "depth.mkv" in reason
    assert [path.name for path in (tmp_path / "views").iterdir()] == ["b"]


def test_missing_folder_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of scenes"):
        render_collection(tmp_path / "none", tmp_path / "views")


def test_records_with_former_names_are_read(tmp_path):
    world_scene(1).save(tmp_path / "scenes" / "a")
    first = render_collection(tmp_path / "scenes", tmp_path / "views", SETTINGS)
    file = tmp_path / "views" / "a" / "rendered.json"
    text = file.read_text()
    file.write_text(text.replace("inpainted_share", "invented_share").replace("other_frames_share", "borrowed_share"))
    with pytest.warns(DeprecationWarning, match="invented_share"):
        again = render_collection(tmp_path / "scenes", tmp_path / "views", SETTINGS)
    assert again.cached == 1 and again.inpainted_share == first.inpainted_share
