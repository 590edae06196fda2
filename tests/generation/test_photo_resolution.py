"""Generated scenes at the resolution of their photographs."""

import numpy as np
import pytest
from PIL import Image

from fourdnex.datasets.worlds import render_world
from fourdnex.generation.photo_resolution import _decodable_size
from fourdnex.generation.scenes import generate
from fourdnex.model.sizes import fit_image


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return render_world(7, num_frames=1, height=192, width=288).rgb[0]


def test_scenes_are_lifted_to_the_photograph_and_off_leaves_them_as_they_were(random_base, photograph):
    settings = {"model": random_base, "num_inference_steps": 1}
    (lifted,) = generate([photograph], **settings)
    (plain,) = generate([photograph], **settings, resolution="model")
    small = np.asarray(Image.fromarray(photograph).resize((96, 64), Image.Resampling.BICUBIC))
    (former,) = generate([small], **settings)  # has no more pixels than the model's frames

    assert lifted.rgb.shape == (17, 192, 288, 3) and lifted.origin is not None and lifted.tracks is not None
    np.testing.assert_array_equal(lifted.rgb[0], photograph)
    assert lifted.provenance["lifted_from"] == [64, 96]
    assert plain.origin is None and plain.tracks is None and "lifted_from" not in plain.provenance
    for field in ("rgb", "depth", "intrinsics", "camera_to_world", "confidence"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(former, field))


def test_a_resolution_is_the_longer_side_and_no_more_than_the_photograph_has(random_base, photograph):
    settings = {"model": random_base, "num_inference_steps": 1}
    portrait = np.ascontiguousarray(photograph.transpose(1, 0, 2))
    (scene,) = generate([portrait], **settings, resolution=200)
    assert scene.rgb.shape == (17, 200, 134, 3)  # 200 * 192 / 288 = 133.3, even
    assert scene.intrinsics[0, 0] == pytest.approx(scene.intrinsics[1, 1], rel=0.01)
    with pytest.raises(ValueError, match="resolution: expected auto, model, photo"):
        next(generate([photograph], **settings, resolution="large"))


def test_an_image_that_is_too_large_to_decode_gives_a_smaller_scene_and_says_so(caplog):
    fit = fit_image((10_000, 20_000), (64, 96))  # 200 million pixels: decoded at a half, 5,000 x 10,000
    assert _decodable_size((10_000, 20_000), fit, "huge") == (1_250, 2_500)
    assert "huge: too many pixels to decode (10000 x 20000): 1250 x 2500 instead of 10000 x 20000" in caplog.text
    assert _decodable_size((384, 768), fit, "huge") == (384, 768)
    assert _decodable_size((2_000, 3_000), fit_image((2_000, 3_000), (64, 96)), "usual") == (2_000, 3_000)
