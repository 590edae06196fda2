from math import log

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fourdnex.model.sizes import (
    AREA_TOLERANCE,
    MAX_AREA,
    MAX_LOSS,
    MAX_RATIO,
    MULTIPLE,
    Fit,
    fit_clip,
    fit_image,
    parse_size,
)

sides = st.integers(16, 6000)
images = st.tuples(sides, sides)
bases = st.sampled_from([(64, 96), (128, 192), (480, 720), (480, 832), (720, 1280)])
multiples = st.integers(1, 90).map(MULTIPLE.__mul__)


def check_crop(fit: Fit) -> None:
    """The crop is centered within the image, and touches two of its borders."""
    (height, width), (left, top, right, bottom) = fit.image_size, fit.crop
    assert 0 <= left + 1e-6 and right <= width + 1e-6 and 0 <= top + 1e-6 and bottom <= height + 1e-6
    assert left + right == pytest.approx(width) and top + bottom == pytest.approx(height)
    assert min(left / width, top / height) == pytest.approx(0, abs=1e-9)
    assert fit.crop_size[0] / fit.crop_size[1] == pytest.approx(fit.ratio[0] / fit.ratio[1])
    assert fit.scale[0] * fit.crop_size[1] == pytest.approx(fit.width)
    assert fit.scale[1] * fit.crop_size[0] == pytest.approx(fit.height)


@given(images, bases, st.sampled_from(["fixed", "area"]))
def test_an_image_is_fitted_at_its_aspect_ratio_within_the_limits(image, base, rule):
    fit = fit_image(image, base, rule=rule)
    assert fit.height % MULTIPLE == fit.width % MULTIPLE == 0 and min(fit.height, fit.width) >= MULTIPLE
    check_crop(fit)
    ratio = image[1] / image[0]
    assert 1 / MAX_RATIO - 1e-9 <= fit.ratio[1] / fit.ratio[0] <= MAX_RATIO + 1e-9
    if 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        assert fit.crop_size == pytest.approx(image)  # nothing is cropped
    else:
        assert fit.crop_size[1] / fit.crop_size[0] == pytest.approx(MAX_RATIO if ratio > 1 else 1 / MAX_RATIO)
    area = fit.height * fit.width / (base[0] * base[1])
    if rule == "fixed":
        assert abs(log(area)) <= log(AREA_TOLERANCE) + 1e-6
    else:
        assert area <= 1 + 1e-9  # rounded down


@given(images, bases)
def test_large_bases_deviate_little_from_the_aspect_ratio(image, base):
    assume(min(base) >= 480)
    assert abs(log(fit_image(image, base).pixel_aspect)) < 0.03


@given(bases)
def test_an_image_of_the_base_has_its_size(base):
    assert fit_image(base, base) == Fit(image_size=base, height=base[0], width=base[1], ratio=base)


@given(images, bases, multiples, multiples)
def test_a_requested_size_is_covered(image, base, height, width):
    fit = fit_image(image, base, size=(height, width))
    assert (fit.height, fit.width) == fit.ratio == (height, width)
    assert fit.pixel_aspect == pytest.approx(1)
    check_crop(fit)


@given(images, bases)
def test_a_clip_loses_at_most_an_eighth_to_the_base_size(clip, base):
    fit = fit_clip(clip, base)
    check_crop(fit)
    if (fit.height, fit.width) == base and fit.ratio == base:
        assert fit.crop_size[0] * fit.crop_size[1] >= (1 - MAX_LOSS) * clip[0] * clip[1] - 1e-6
    else:
        assert fit == fit_image(clip, base)


@given(bases, multiples, multiples)
def test_a_size_is_parsed_from_text_or_rejected_for_its_area(base, height, width):
    area = height * width / (base[0] * base[1])
    text = f"{height}x{width}"
    if 1 / MAX_AREA <= area <= MAX_AREA:
        assert parse_size(text, base) == parse_size((height, width), base) == (height, width)
    else:
        with pytest.raises(ValueError, match=rf"size: .* got {text}"):
            parse_size(text, base)


@given(bases, st.integers(1, 2000).filter(lambda side: side % MULTIPLE))
def test_sides_that_are_not_multiples_of_16_are_rejected(base, side):
    with pytest.raises(ValueError, match=f"multiple of 16, got {side}"):
        parse_size((side, base[1]), base)
