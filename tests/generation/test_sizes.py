"""Sizes that keep an image's ratio, by our rule and the reference implementation's, and the scenes made at them."""

from math import log

import numpy as np
import pytest
import torch
from PIL import Image

from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world
from fourdnex.generation.collections import generate_collection
from fourdnex.generation.pointmap_files import estimated_first_pointmap, read_first_pointmap
from fourdnex.generation.reconstruction import scene_from_video
from fourdnex.generation.scenes import generate
from fourdnex.geometry.cameras import default_field_of_view, intrinsics_from_field_of_view, unproject
from fourdnex.io.images import read_image
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.adapter_files import adapter_digest
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import base_digest
from fourdnex.model.sizes import area_size, fit_image, nearest_size, parse_size
from fourdnex.model.transformer import SixDTransformer


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((480, 720), (480, 720)),
        ((3024, 4032), (496, 672)),  # sqrt(345600 * .75) = 509.1, sqrt(345600 / .75) = 678.8
        ((4032, 3024), (672, 496)),
        ((1080, 1920), (432, 784)),  # 440.9, 783.8: the latter is rounded before it is cut to a multiple
        ((1000, 1000), (576, 576)),  # 587.9
        ((16, 16000), (16, 18576)),  # 18.6, 18590.3
    ],
)
def test_sides_by_the_references_rule(image, expected):
    assert area_size(image, area=480 * 720) == expected


@pytest.mark.parametrize(
    ("image", "tiny", "large"),
    [
        ((2000, 3000), (64, 96), (480, 720)),
        ((3000, 2000), (96, 64), (720, 480)),
        ((512, 512), (80, 80), (592, 592)),  # 37 * 37 = 1369 units of 256 pixels, the base has 30 * 45 = 1350
        ((3024, 4032), (64, 80), (512, 688)),  # tiny: off by log(4/3 / 1.25) = 0.065 + 0.046, with 64x96 by 0.118
        ((1920, 1080), (112, 64), (768, 432)),
        ((1000, 3000), (48, 144), (336, 1008)),
    ],
)
def test_sides_nearest_in_ratio_and_area(image, tiny, large):
    assert nearest_size(image, area=64 * 96) == tiny
    assert nearest_size(image, area=480 * 720) == large


@pytest.mark.parametrize(("area", "most"), [(64 * 96, 0.15), (480 * 720, 0.013)])
def test_images_are_stretched_by_little_and_turned_ones_the_same_way(area, most):
    for height in range(334, 1000, 37):
        sides = nearest_size((height, 1000), area=area)
        assert all(side % 16 == 0 for side in sides) and 3 / 4 <= sides[0] * sides[1] / area <= 4 / 3
        assert abs(log(sides[1] / sides[0] * height / 1000)) < most
        assert nearest_size((1000, height), area=area) == sides[::-1]


def test_nothing_is_cut_but_beyond_3_to_1():
    fit = fit_image((3024, 4032), (64, 96))
    assert fit.crop == (0, 0, 4032, 3024) and fit.scale == (80 / 4032, 64 / 3024)
    assert fit.pixel_aspect == pytest.approx(1.25 / (4 / 3))
    long = fit_image((200, 1600), (64, 96))
    assert (long.height, long.width, long.crop, long.scale) == (48, 144, (500, 0, 1100, 200), (0.24, 0.24))
    assert fit_image((1600, 200), (64, 96)).crop == (0, 500, 200, 1100)
    fixed = fit_image((3024, 4032), (64, 96), size="base")
    assert (fixed.height, fixed.width, fixed.crop, fixed.pixel_aspect) == (64, 96, (0, 168, 4032, 2856), 1)
    assert fit_image((3024, 4032), (480, 720), rule="area").crop == (0, 0, 4032, 3024)
    assert fit_image((17, 17), (64, 96)).to_json() == {
        "image_size": [17, 17],
        "crop": [0, 0, 17, 17],
        "scale": [round(80 / 17, 6)] * 2,
    }


def test_sizes_that_are_asked_for():
    assert [parse_size(size, (64, 96)) for size in ("image", "base", "96x64", (48, 112))] == [
        "image", "base", (96, 64), (48, 112),
    ]  # fmt: skip
    for size, message in (
        ("portrait", "size: expected image, base, or height and width such as 64x96, got 'portrait'"),
        ("100x64", "size: expected a height that is a multiple of 16, got 100; nearest: 96"),
        ((64, 8), "size: expected a width that is a multiple of 16, got 8; nearest: 16"),
        ("480x720", r"size: expected 1,536 to 24,576 pixels \(the base has 64x96\), got 480x720 = 345,600"),
        ("16x16", "size: expected 1,536 to 24,576 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_size(size, (64, 96))


def test_an_image_is_read_whole_or_in_its_middle(tmp_path):
    """Four quarters of one color each: all there in a stretched image, and in the middle of a long one."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:30, :40], pixels[:30, 40:], pixels[30:, :40] = 255, (255, 0, 0), (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    fit = fit_image((60, 80), (64, 96))
    rgb = read_image(tmp_path / "a.png", height=fit.height, width=fit.width, ratio=fit.ratio)
    assert rgb.shape == (64, 80, 3)
    assert (rgb[:28, :36] == 255).all() and (rgb[36:, 44:] == 0).all() and (rgb[36:, 36] == (0, 255, 0)).all()
    strip = np.zeros((20, 100, 3), np.uint8)
    strip[:, 20:80] = 255
    Image.fromarray(strip).save(tmp_path / "b.png")
    fit = fit_image((20, 100), (64, 96))
    assert read_image(tmp_path / "b.png", height=48, width=144, ratio=fit.ratio)[:, 4:-4].min() > 250


@pytest.mark.parametrize("size", [(96, 64), (80, 80), (64, 80)])
def test_a_stretched_image_gives_the_camera_of_its_square_pixels(size):
    """Exact points of a world whose pixels are 5 % narrower than high: fx and fy in that ratio, and true depth."""
    clip = render_world(3, num_frames=3, height=size[0], width=size[1])
    lens = clip.intrinsics.copy()
    lens[0, 0] *= 0.95
    points = unproject(clip.depth, lens, clip.camera_to_world)
    scene = scene_from_video(clip.rgb, points, fps=8, name="a", provenance={}, pixel_aspect=0.95)
    assert scene.intrinsics == pytest.approx(lens, rel=2e-3, abs=1e-3)
    assert np.abs(scene.depth / clip.depth - 1).max() < 2e-3
    assert scene.provenance["recovery_rmse"] < 1e-3


def test_a_camera_held_upright_sees_what_it_sees_on_its_side():
    focal = intrinsics_from_field_of_view(60, height=64, width=96)[0, 0]
    for height, width in ((64, 96), (96, 64)):
        angle = default_field_of_view(height, width)
        assert intrinsics_from_field_of_view(angle, height=height, width=width)[0, 0] == pytest.approx(focal)
    assert default_field_of_view(2000, 3000) == 60


class _Depth:
    """Every pixel is 2 units away, seen by square pixels: a clip with the usual camera."""

    name, version, license = "depth", "1", "Apache-2.0"

    def annotate(self, clip: Clip) -> Clip:
        angle = default_field_of_view(clip.height, clip.width)
        lens = intrinsics_from_field_of_view(angle, height=clip.height, width=clip.width)
        depth = np.full(clip.rgb.shape[:3], 2, np.float32)
        points = unproject(depth, lens, np.eye(4, dtype=np.float32)[None])
        return Clip(name=clip.name, rgb=clip.rgb, imported_pointmaps=points)


def test_starts_lie_on_the_rays_of_the_images_square_pixels():
    """An image of 4:3 at 64x80: its points are as far from the axis per pixel of the image across as down."""
    fit = fit_image((300, 400), (64, 96))
    for points in (
        estimated_first_pointmap(_Depth(), np.zeros((64, 80, 3), np.uint8), name="a", pixel_aspect=fit.pixel_aspect),
        read_first_pointmap(np.full((300, 400), 2, np.float32), fit, name="a"),
    ):
        across, down = np.ptp(points[0, :, 0]) / 79 * fit.scale[0], np.ptp(points[:, 0, 1]) / 63 * fit.scale[1]
        assert across == pytest.approx(down, rel=0.02)


@pytest.fixture(scope="module")
def adapters(random_base, tmp_path_factory) -> dict[str, str]:
    torch.manual_seed(0)
    transformer = SixDTransformer.from_base(load_pipeline(str(random_base))[0].transformer)
    add_lora(transformer, rank=1, alpha=1.0)
    state = {key: value + 0.01 * torch.randn_like(value) for key, value in adapter_state(transformer).items()}
    folders = {}
    for size in ("fixed", "area"):
        info = AdapterInfo(rank=1, alpha=1.0, base_digest=base_digest(str(random_base)), scale=1.0, size=size)
        folders[size] = str(tmp_path_factory.mktemp("adapters") / size)
        save_adapter(folders[size], state, info)
    return folders


def test_images_of_several_ratios_share_a_batch_and_keep_their_order(adapters, random_base):
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((60, 90), (90, 60), (64, 96), (80, 80))]
    way = {"model": str(random_base), "num_inference_steps": 1, "ensemble_size": 1}
    scenes = list(generate(images, adapter=adapters["area"], **way))
    assert [scene.rgb.shape[1:3] for scene in scenes] == [(64, 96), (96, 64), (64, 96), (64, 64)]
    assert [scene.name for scene in scenes] == ["image-0000", "image-0001", "image-0002", "image-0003"]
    alone = next(iter(generate(images[1:2], adapter=adapters["area"], **way)))
    assert np.abs(alone.rgb.astype(int) - scenes[1].rgb).max() <= 1
    for size, expected in (("image", (96, 64)), ("base", (64, 96)), ("80x80", (80, 80))):
        (scene,) = generate(images[1:2], adapter=adapters["fixed"], size=size, **way)
        assert scene.rgb.shape[1:3] == expected and scene.provenance["image_size"] == [90, 60]


def test_scenes_of_another_size_are_made_again(random_base, tmp_path):
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    noise = np.random.default_rng(0)
    for name, size in (("panorama", (20, 160)), ("dot", (17, 17))):
        Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)).save(images / f"{name}.png")
    way = {"model": str(random_base), "num_inference_steps": 1, "ensemble_size": 1}
    report = generate_collection(images, out, **way)
    assert (report.done, report.failed) == (2, ())
    assert generate_collection(images, out, **way).cached == 2
    (images / "dot.png").unlink()
    assert generate_collection(images, out, size="base", **way).done == 1
    assert generate_collection(images, out, size="base", **way).cached == 1
    with pytest.raises(ValueError, match="size: expected image, base, or"):
        generate_collection(images, out, size="large", **way)


def test_the_choice_counts_in_the_digest_where_it_is_not_what_it_always_was(adapters):
    assert adapter_digest(adapters["fixed"]) != adapter_digest(adapters["area"])


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="size: expected fixed or area, got 'any'"):
        AdapterInfo(rank=1, alpha=1.0, size="any")
