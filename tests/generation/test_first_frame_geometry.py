"""First point maps for generation: read from arrays and files, found by an annotator, honoured by the scenes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.depth_network import network_identity
from fourdnex.clip import Clip
from fourdnex.generation.collections import generate_collection, generate_one
from fourdnex.generation.pointmap_files import estimated_first_pointmap, read_first_pointmap
from fourdnex.generation.scenes import Failure, generate, generate_each
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.base import Base
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import base_digest
from fourdnex.model.sizes import fit_image
from fourdnex.model.transformer import SixDTransformer
from fourdnex.scene import Scene4D

FIT = fit_image((640, 960), (64, 96))
ONE_STEP = {"num_inference_steps": 1, "ensemble_size": 1}


class FlatWall:
    """Every image is a wall, two units away; a black one shows nothing."""

    name, version, license = "wall", "1", "Apache-2.0"

    def annotate(self, clip: Clip) -> Clip:
        if not clip.rgb.any():
            raise AnnotationError("too dark")
        rows, columns = np.mgrid[: clip.height, : clip.width].astype(np.float32)
        points = np.stack([columns / 50, rows / 50, np.full_like(rows, 2.0)], axis=-1)
        return replace(clip, annotator=self.name, imported_pointmaps=points[None])


def plane_in_view(height: int = 64, width: int = 96) -> np.ndarray:
    """A wall five units ahead, in OpenCV axes: [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([(columns - width / 2) / 20, (rows - height / 2) / 20, np.full_like(rows, 5.0)], axis=-1)


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        ((1, -1, -1), r"expected z > 0 .* OpenCV axes .* got 100% with z <= 0, down to -5; negate y and z"),
        ((1, -1, 1), r"expected y to grow downward in the image, in OpenCV axes"),
        ((-1, 1, 1), r"expected x to grow to the right in the image, in OpenCV axes"),
    ],
)
def test_points_in_other_axes_are_refused(signs, message):
    with pytest.raises(ValueError, match=message):
        read_first_pointmap(plane_in_view() * np.float32(signs), FIT, name="map")


def test_one_point_behind_the_camera_is_enough_to_refuse():
    points = plane_in_view()
    points[3, 4, 2] = -0.5
    with pytest.raises(ValueError, match=r"got 0% with z <= 0, down to -0\.5"):
        read_first_pointmap(points, FIT, name="map")


def test_a_point_at_the_camera_means_unknown():
    points = plane_in_view()
    points[:20] = 0
    read = read_first_pointmap(points, FIT, name="map")
    assert np.isnan(read[:20]).all()
    assert np.array_equal(read[20:], points[20:])


def test_depth_in_opengl_axes_is_refused_and_a_mark_for_unknown_is_not():
    depth = np.full((64, 96), -5.0)
    with pytest.raises(ValueError, match=r"expected depth above 0 .* got 6144 pixels below 0; depth in OpenGL axes"):
        read_first_pointmap(depth, FIT, name="map")
    depth[8:] = 5.0
    read = read_first_pointmap(depth, FIT, name="map")
    assert np.isnan(read[:8]).all() and (read[8:, :, 2] == 5).all()


@pytest.fixture(scope="module")
def adapter(random_base, tmp_path_factory):
    """An adapter of random weights that was trained with first-frame point maps."""
    torch.manual_seed(0)
    transformer = SixDTransformer.from_base(load_pipeline(str(random_base))[0].transformer)
    add_lora(transformer, rank=1, alpha=1.0)
    info = AdapterInfo(
        rank=1,
        alpha=1.0,
        xyz_init="pointmap",
        base_digest=base_digest(str(random_base)),
        num_frames=17,
        height=64,
        width=96,
    )
    folder = tmp_path_factory.mktemp("first_frame_geometry") / "adapter"
    save_adapter(folder, adapter_state(transformer), info)
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a", "b")):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def wall(height=64, width=96, z=2.0) -> np.ndarray:
    return np.full((height, width), z, np.float32)


def test_depth_is_seen_by_a_camera_60_degrees_wide():
    points = read_first_pointmap(wall(), FIT, name="x")
    assert points.shape == (64, 96, 3) and points.dtype == np.float32
    assert (points[..., 2] == 2).all()
    # half the width, 48 pixels, is tan 30 degrees of the depth; the outermost pixel's center lies 47.5 from the middle
    assert points[0, -1, 0] == pytest.approx(2 * np.tan(np.radians(30)) * 47.5 / 48, rel=1e-5)
    assert points[0, 0, 0] == pytest.approx(-points[0, -1, 0], rel=1e-5)


def test_points_are_scaled_and_cut_as_the_image_is(tmp_path):
    """A start of twice the size and a wider one: every second pixel, and the middle."""
    rows, columns = np.mgrid[:128, :300].astype(np.float32)
    points = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    np.save(tmp_path / "start.npy", points)
    start = read_first_pointmap(tmp_path / "start.npy", fit_image((64, 150), (64, 96), size="base"), name="x")
    assert np.array_equal(np.diff(start[0, :, 0]), np.full(95, 2))
    assert start[0, :, 0].mean() == pytest.approx(149.5, abs=1)
    assert start[:, 0, 1].tolist() == pytest.approx(np.arange(0, 128, 2), abs=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((4, 6, 2)),
            r"x: .*expected points \[H, W, 3\] or depth \[H, W\], got \(4, 6, 2\)",
        ),
        (np.full((4, 6), "a"), "x: first-frame geometry: expected points"),
        (np.zeros((0, 6)), "x: first-frame geometry: expected points"),
        (
            wall(96, 64),
            "x: .*expected the aspect ratio of the upright image, 960 x 640, got 64 x 96",
        ),
        (
            wall(64, 100),
            "x: .*expected the aspect ratio of the upright image, 960 x 640, got 100 x 64",
        ),
        (wall(z=np.nan), "x: .*pointmaps: expected at least one valid pixel"),
        (wall(z=-1), "x: first-frame geometry: expected depth above 0"),
        (np.zeros((64, 96, 3)), "x: .*pointmaps: expected at least one valid pixel"),
        (
            np.pad(wall(1, 1), ((9, 54), (9, 86))),
            "x: .*pointmaps: expected points with some extent",
        ),
        (
            np.pad(wall(65, 1), ((0, 0), (0, 99))),
            "x: .*pointmaps: expected at least one valid pixel",
        ),  # cut off
    ],
)
def test_wrong_starts_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        read_first_pointmap(given, FIT, name="x")


def test_a_file_without_an_array_is_named(tmp_path):
    for content in (b"", b"no array", b"PK\x03\x04 cut"):
        (tmp_path / "start.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"start\.npy: expected "):
            read_first_pointmap(tmp_path / "start.npy", FIT, name="x")


def test_nothing_that_executes_is_read(tmp_path):
    np.save(tmp_path / "start.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected an array of numbers, got object"):
        read_first_pointmap(tmp_path / "start.npy", FIT, name="x")


def test_an_annotator_finds_the_start_or_says_why_not():
    image = np.full((64, 96, 3), 9, np.uint8)
    start = estimated_first_pointmap(FlatWall(), image, name="Grüße (1)")
    assert start.shape == (64, 96, 3) and (start[..., 2] == 2).all()
    with pytest.raises(ValueError, match="too dark"):
        estimated_first_pointmap(FlatWall(), image * 0, name="x")


def test_a_start_of_an_image_on_its_side_is_refused(adapter, random_base, tmp_path):
    """Portrait by its EXIF orientation, with depth of the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(tmp_path / "a.jpg", exif=exif)
    arguments = {"model": random_base, "adapter": adapter, "first_frame_geometry": [wall()], **ONE_STEP}
    (result,) = generate_each([tmp_path / "a.jpg"], **arguments)
    assert (
        result.reason == "a: first-frame geometry: expected the aspect ratio of the upright image, 64 x 96, got 96 x 64"
    )


def test_a_depth_network_finds_the_starts_of_a_collection(adapter, random_base, images, tmp_path):
    arguments = {"model": str(random_base), "adapter": adapter, **ONE_STEP}
    report = generate_collection(images, tmp_path / "scenes", depth_network="tiny", **arguments)
    again = generate_collection(images, tmp_path / "scenes", **arguments)
    assert "start:" not in str(report.failed)  # of random weights not every image gives cameras
    assert (again.done, again.cached) == (0, report.done) and again.failed == report.failed
    for folder in (tmp_path / "scenes").glob("*/scene.json"):
        assert json.loads(folder.read_text())["provenance"]["geometry_network"] == network_identity("tiny")
    with pytest.raises(ValueError, match="depth_network: expected None beside first_frame_geometry"):
        generate_collection(
            images, tmp_path / "scenes", first_frame_geometry=tmp_path, depth_network="tiny", **arguments
        )


def test_a_bad_start_stops_no_other_image(adapter, random_base, images):
    paths = sorted(images.iterdir())
    first_frame_geometry = np.stack([np.zeros((64, 96)), wall()])
    results = list(
        generate_each(paths, model=random_base, adapter=adapter, first_frame_geometry=first_frame_geometry, **ONE_STEP)
    )
    reason = "a: first-frame geometry: pointmaps: expected at least one valid pixel, got none"
    assert results[0] == Failure(name="a", reason=reason)
    assert results[1].name == "b" and "start" not in getattr(results[1], "reason", "")


@pytest.mark.slow
def test_scenes_have_the_unit_of_their_starts(adapter, random_base, images):
    """The same start in meters and in centimeters: the same scene, a hundred times larger."""
    paths = sorted(images.iterdir())
    rows, columns = np.mgrid[:64, :96].astype(np.float32)
    start = np.stack([columns / 50, rows / 50, 2 + rows / 30], axis=-1)
    arguments = {"model": random_base, "adapter": adapter, **ONE_STEP}
    results = list(generate_each(paths, first_frame_geometry=[start, 100 * start], **arguments))
    other = list(generate_each(paths, first_frame_geometry=[100 * start, start], **arguments))
    assert all(type(a) is type(b) for a, b in zip(results, other, strict=True))
    for small, large in ((results[0], other[0]), (other[1], results[1])):
        assert isinstance(small, Scene4D) and isinstance(large, Scene4D)
        assert np.nanmedian(large.depth / small.depth) == pytest.approx(100, rel=0.05)


def test_starts_must_be_there_for_such_an_adapter_and_for_no_other(adapter, random_base, images, monkeypatch):
    """Unless a depth network comes with the base."""
    paths = sorted(images.iterdir())
    found = list(generate_each(paths, model=random_base, adapter=adapter, **ONE_STEP))
    assert "start" not in str([result.reason for result in found if isinstance(result, Failure)])
    monkeypatch.setattr(Base, "depth_network_for", lambda base, recipe, requested=None: None)
    with pytest.raises(ValueError, match="first_pointmaps: this adapter needs a first-frame point map"):
        next(generate(paths, model=random_base, adapter=adapter))
    with pytest.raises(ValueError, match="first_pointmaps: this adapter starts from the sloped plane"):
        next(generate(paths, model=random_base, first_frame_geometry=FlatWall()))


@pytest.mark.slow
def test_a_collection_finds_its_starts_by_name_and_sets_aside_what_has_none(adapter, random_base, images, tmp_path):
    first_frame_geometry, out = tmp_path / "first_frame_geometry", tmp_path / "scenes"
    first_frame_geometry.mkdir()
    ramp = wall() + np.arange(64, dtype=np.float32)[:, None] / 30
    np.save(first_frame_geometry / "a.npy", ramp)
    arguments = {
        "model": str(random_base),
        "adapter": adapter,
        "first_frame_geometry": first_frame_geometry,
        **ONE_STEP,
    }
    report = generate_collection(images, out, **arguments)
    reasons = dict(report.failed)
    assert "b.npy" in reasons["b.png"]
    again = generate_collection(images, out, **arguments)
    assert again.done == 0 and dict(again.failed) == reasons  # nothing is tried twice
    np.save(first_frame_geometry / "b.npy", ramp)
    third = generate_collection(images, out, **arguments)
    assert "b.npy" not in str(third.failed)
    assert report.done == 1
    by_file = arguments | {"first_frame_geometry": first_frame_geometry / "a.npy"}
    assert generate_one(images / "a.png", tmp_path / "one", **by_file)
    assert not generate_one(images / "a.png", tmp_path / "one", **arguments)  # by folder: the same start
