"""From images to scenes: exact point maps give the exact cameras, and one bad image stops no other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdnex.datasets.worlds import render_world
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.generation.caption_sources import DEFAULT_PROMPT
from fourdnex.generation.reconstruction import ray_agreement, scene_from_video
from fourdnex.generation.scenes import Failure, generate, generate_each
from fourdnex.identity import git_commit, repository_root
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.presets import get_preset
from fourdnex.scene import Scene4D


@pytest.fixture(scope="module")
def clip():
    """A small world whose camera orbits: every pose differs in place and direction."""
    seed = next(s for s in range(100) if {"camera-orbit", "dynamic"} <= set(sample_world(s).tags))
    return render_world(seed, num_frames=5, height=32, width=48)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def scene_of(clip, pointmaps) -> Scene4D:
    return scene_from_video(clip.rgb, pointmaps, fps=8.0, name="a", provenance={"seed": 3})


def test_exact_points_give_the_exact_cameras_and_depth(clip):
    scene = scene_of(clip, clip.pointmaps)
    assert np.abs(scene.camera_to_world - clip.camera_to_world).max() < 1e-3
    assert np.abs(scene.depth / clip.depth - 1).max() < 1e-3
    assert (
        np.abs(
            scene.intrinsics / np.where(clip.intrinsics == 0, 1, clip.intrinsics) - clip.intrinsics.astype(bool)
        ).max()
        < 1e-3
    )
    assert scene.confidence.min() > 0.99
    assert np.array_equal(scene.rgb, clip.rgb)
    assert scene.provenance["seed"] == 3 and scene.provenance["recovery_rmse"] < 1e-3


def test_the_world_of_a_scene_is_its_first_camera_wherever_the_points_were(clip):
    """Points turned, moved and doubled: the same relative poses, everything twice as large."""
    angle = 0.7
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    moved = (2 * clip.pointmaps @ turn.T + np.array([5.0, -1.0, 2.0])).astype(np.float32)
    scene = scene_of(clip, moved)
    assert np.array_equal(scene.camera_to_world[0], np.eye(4))
    assert np.abs(scene.camera_to_world[:, :3, :3] - clip.camera_to_world[:, :3, :3]).max() < 2e-3
    assert np.abs(scene.camera_to_world[:, :3, 3] - 2 * clip.camera_to_world[:, :3, 3]).max() < 1e-2
    assert np.abs(scene.depth / (2 * clip.depth) - 1).max() < 2e-3


def test_points_without_cameras_are_refused(clip):
    with pytest.raises(ValueError):
        scene_of(clip, np.ones_like(clip.pointmaps))


def test_confidence_falls_with_the_distance_from_the_ray_point():
    """On the optical axis: exactly right, off by 10 % of depth, by 20 %, and no depth at all."""
    depth = np.array([2.0, 2.0, 2.0, np.nan], np.float32).reshape(4, 1, 1)
    points = np.zeros((4, 1, 1, 3), np.float32)
    points[..., 2] = np.array([2.0, 2.2, 1.6, 2.0]).reshape(4, 1, 1)
    poses = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    agreement = ray_agreement(points, depth, np.eye(3, dtype=np.float32), poses)
    assert agreement.ravel() == pytest.approx([1.0, np.exp(-1), np.exp(-4), 0.0], abs=1e-5)


def test_paths_images_and_arrays_give_scenes_in_order(tmp_path, random_base, image):
    """The same pixels, however they come and whichever batch they fall in, give the same scene."""
    Image.fromarray(image).save(tmp_path / "Red box.png")
    images = [tmp_path / "Red box.png", Image.fromarray(image), image]
    scenes = list(
        generate(images, model=random_base, seed=5, num_inference_steps=1, batch_size=2, provenance={"run": "x"})
    )
    assert [scene.name for scene in scenes] == ["Red box", "image-0001", "image-0002"]
    for scene in scenes:
        assert scene.rgb.shape == (17, 64, 96, 3)
        assert np.abs(scene.rgb.astype(int) - scenes[0].rgb.astype(int)).max() <= 1
        known = scene.provenance
        assert (known["seed"], known["run"], known["prompt"]) == (5, "x", DEFAULT_PROMPT)
        assert known["model"] == "fourdnex-tiny-random" and known["adapter_digest"] is None
        assert known["git_commit"] == git_commit(repository_root()) and known["data_md5"] is None
        assert known["sampling"] == replace(get_preset(random_base).sampling, num_inference_steps=1).to_json()


def test_a_bad_image_becomes_a_failure_and_the_rest_goes_on(tmp_path, random_base, image):
    (tmp_path / "text.png").write_text("no image")
    images = [
        image,
        tmp_path / "text.png",
        tmp_path / "missing.png",
        image.astype(np.float32),
        image[:8],
        image,
    ]
    results = list(generate_each(images, model=random_base, num_inference_steps=1, batch_size=4))
    assert [type(result) for result in results] == [Scene4D, Failure, Failure, Failure, Failure, Scene4D]
    assert [result.name for result in results[1:5]] == ["text", "missing", "image-0003", "image-0004"]
    reasons = [result.reason for result in results[1:5]]
    assert "not an image" in reasons[0]
    assert "missing.png" in reasons[1]
    assert "expected [H, W, 3] uint8, got (64, 96, 3) float32" in reasons[2]
    assert "expected at least 16 x 16" in reasons[3]


def test_generate_stops_at_a_bad_image(tmp_path, random_base):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text: .*not an image"):
        next(generate([tmp_path / "text.png"], model=random_base))


def test_wrong_arguments_are_refused_before_the_model_is_loaded():
    for arguments, message in (
        ({"images": ["a.png", "b.png"], "prompts": ["one"]}, "prompts: expected one for each of 2 images, got 1"),
        (
            {"images": ["a.png", "b.png"], "first_frame_geometry": ["a.npy"]},
            "first_frame_geometry: expected one for each of 2 images, got 1",
        ),
        (
            {"images": ["a.png"], "first_frame_geometry": "my-depth"},
            "first_frame_geometry: expected a list or array .*, got 'my-depth'",
        ),
        (
            {"images": ["a.png"], "first_frame_geometry": Path("my-depth")},
            "first_frame_geometry: expected a list or array",
        ),
        (
            {"images": ["a.png"], "first_frame_geometry": [None]},
            "first_frame_geometry: expected arrays and .npy files, got None",
        ),
        (
            {"images": ["a.png"], "first_frame_geometry": np.ones((4, 6, 3))},
            r"first_frame_geometry: expected \[1, H, W, 3\] .*, got \(4, 6, 3\)",
        ),
        ({"images": ["a.png"], "batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"images": "a.png"}, r"images: expected several, got one \(a.png\)"),
    ):
        with pytest.raises(ValueError, match=message):
            next(generate(**arguments, model="nowhere"))
    with pytest.raises(TypeError, match="num_steps"):
        next(generate(["a.png"], num_steps=1))
    with pytest.raises(ValueError, match="fp8_storage: expected False with a step-distilled LoRA"):
        next(generate(["a.png"], memory=MemorySettings(fp8_storage=True), distilled_lora=Path("any.safetensors")))
