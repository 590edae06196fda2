"""Sizes by the reference implementation's rule, and scenes that keep an image's ratio."""

import numpy as np
import pytest
import torch

from fourdnex.generation.scenes import generate
from fourdnex.generation.sizes import area_size
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
from fourdnex.model.adapter_files import adapter_digest
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import base_digest
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
    assert next(iter(generate(images[1:2], adapter=adapters["fixed"], **way))).rgb.shape[1:3] == (64, 96)


def test_the_choice_counts_in_the_digest_where_it_is_not_what_it_always_was(adapters):
    assert adapter_digest(adapters["fixed"]) != adapter_digest(adapters["area"])


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="size: expected fixed or area, got 'any'"):
        AdapterInfo(rank=1, alpha=1.0, size="any")
