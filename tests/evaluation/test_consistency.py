"""Consistency of scenes with known ground truth: exact worlds, and worlds with known defects."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.datasets.worlds import render_world
from fourdnex.evaluation.consistency import collection_consistency, scene_consistency
from fourdnex.scene import Scene4D


def scene_of(seed: int = 7) -> Scene4D:
    clip = render_world(seed, num_frames=17, height=64, width=96).window(0, 5)
    return Scene4D(
        rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world, fps=clip.fps
    )


def test_exact_world_is_consistent():
    found = scene_consistency(scene_of())
    assert found.depth_error < 0.01
    assert found.agreement > 0.9
    assert found.flow_error < 1.0
    assert found.dynamic_share < 0.3


def test_oscillating_depth_is_detected():
    scene = scene_of()
    factor = np.where(np.arange(5) % 2, 1.15, 1.0)[:, None, None]
    spoilt = scene_consistency(replace(scene, depth=scene.depth * factor))
    assert spoilt.dynamic_share > 0.9  # no point keeps its position
    wrong_cameras = scene.camera_to_world.copy()
    wrong_cameras[1::2, :3, 3] += np.float32([0.3, 0, 0])
    assert scene_consistency(replace(scene, camera_to_world=wrong_cameras)).flow_error > 3


def test_static_scene_is_consistent_without_motion():
    scene = scene_of()
    still = replace(
        scene,
        rgb=np.repeat(scene.rgb[:1], 5, axis=0),
        depth=np.repeat(scene.depth[:1], 5, axis=0),
        camera_to_world=np.repeat(scene.camera_to_world[:1], 5, axis=0),
    )
    found = scene_consistency(still)
    assert (found.agreement, found.dynamic_share, found.path_length) == (1.0, 0.0, 0.0)
    assert found.depth_error < 1e-6
    assert found.turn == pytest.approx(0, abs=0.1)


def test_path_length_and_turn_match_hand_computation():
    scene = scene_of()
    angle = np.radians(3.0)
    poses = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    for t in range(5):
        c, s = np.cos(t * angle), np.sin(t * angle)
        poses[t, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        poses[t, 2, 3] = 0.5 * t
    found = scene_consistency(replace(scene, depth=np.full_like(scene.depth, 4.0), camera_to_world=poses))
    assert found.turn == pytest.approx(12.0, abs=0.05)
    assert found.path_length == pytest.approx(0.5)


def test_flying_pixels_are_counted():
    scene = scene_of()
    depth = np.full_like(scene.depth, 2.0)
    depth[:, :, 48:] = 4.0
    assert scene_consistency(replace(scene, depth=depth)).flying_share == 0
    depth[:, :, 48] = 2.7  # a column between the two surfaces
    assert scene_consistency(replace(scene, depth=depth)).flying_share == pytest.approx(1 / 96, rel=0.2)


def test_single_frame_and_empty_frames_raise():
    scene = scene_of()
    one = replace(scene, rgb=scene.rgb[:1], depth=scene.depth[:1], camera_to_world=scene.camera_to_world[:1])
    with pytest.raises(ValueError, match="expected at least 2 frames, got 1"):
        scene_consistency(one)
    depth = scene.depth.copy()
    depth[2] = np.nan
    with pytest.raises(ValueError, match="none in frame 2"):
        scene_consistency(replace(scene, depth=depth))


def test_collection_scores_are_cached_until_a_scene_is_regenerated(tmp_path):
    scene = scene_of()
    scene.save(tmp_path / "moving")
    still = {name: np.repeat(getattr(scene, name)[:1], 5, axis=0) for name in ("rgb", "depth", "camera_to_world")}
    replace(scene, **still).save(tmp_path / "still")
    scene.save(tmp_path / "damaged")
    (tmp_path / "damaged" / "rgb.mkv").write_bytes(b"")
    first, second = collection_consistency(tmp_path)
    assert (first["scene"], second["scene"]) == ("moving", "still")
    assert second["agreement"] == 1 and second["path_length"] == 0 < first["path_length"]
    kept = (tmp_path / "moving" / "consistency.json").stat().st_mtime_ns
    assert collection_consistency(tmp_path) == [first, second]
    assert (tmp_path / "moving" / "consistency.json").stat().st_mtime_ns == kept
    replace(scene, **still).save(tmp_path / "moving")
    assert collection_consistency(tmp_path)[0]["path_length"] == 0
