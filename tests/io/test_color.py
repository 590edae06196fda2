"""Conversion of coded colors to sRGB: expected values derived by hand from the standards."""

import numpy as np
import pytest

from fourdnex.io.color import BT709, BT2020, DISPLAY_P3, HLG, LINEAR, PQ, SRGB, CodedColor, encode_srgb, gamut_matrix

D65 = (0.3127, 0.3290)


def srgb(color: CodedColor, *signal: float) -> list[int]:
    return color.to_srgb(np.array([signal], np.float32))[0].tolist()


@pytest.mark.parametrize(
    ("transfer", "signal", "expected"),
    [
        # ITU-R BT.2408: diffuse white of 203 cd/m2 is 58 % of PQ and 75 % of HLG, a gray card of 26 cd/m2 38 % of both.
        # White rolls off to .9 + .1 (1 - 1/e) = .963 of its light, which is 251 in sRGB; the card is below the knee:
        # 26 / 203 = .128, in sRGB 1.055 .128^(1/2.4) - .055 = .393, which is 100.
        (PQ, 0.58, 251),
        (HLG, 0.75, 251),
        (PQ, 0.38, 100),
        (HLG, 0.38, 100),
        (PQ, 0.0, 0),
        (HLG, 0.0, 0),
        (PQ, 1.0, 255),
        (HLG, 1.0, 255),
        # Linear light: .5 is .735 in sRGB, 188.
        (LINEAR, 0.5, 188),
        (SRGB, 0.5, 128),
    ],
)
def test_grays(transfer, signal, expected):
    for primaries in (BT709, BT2020):
        values = srgb(CodedColor(primaries, transfer), signal, signal, signal)
        assert max(abs(value - expected) for value in values) <= 1


def test_highlights_stay_monotonic():
    signal = np.linspace(0, 1, 5000, dtype=np.float32)[:, None].repeat(3, 1)
    levels = CodedColor(BT2020, PQ).to_srgb(signal)[:, 0].astype(int)
    assert (np.diff(levels) >= 0).all() and np.diff(levels).max() == 1 and levels[-1] == 255


def test_wide_gamuts():
    """The published matrix of BT.2020 to BT.709 (ITU-R BT.2087), and a Display P3 color as CSS Color 4 converts it."""
    bt2020 = gamut_matrix((D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)))
    expected = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    assert np.abs(bt2020 - expected).max() < 1e-4
    # color(display-p3 0.8 0.5 0.4): light .6038 .2140 .1329; matrix of P3 to sRGB; .6916 .1977 .1178 of light.
    assert np.abs(np.array(srgb(CodedColor(DISPLAY_P3, SRGB), 0.8, 0.5, 0.4)) - (216, 123, 96)).max() <= 1
    assert srgb(CodedColor(BT2020, SRGB), 0.0, 1.0, 0.0) == [0, 255, 0]


def test_other_white_points_are_adapted():
    illuminant_c = (0.3101, 0.3162)
    color = CodedColor((illuminant_c, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), gamma=2.2)
    assert np.abs(np.array(srgb(color, 1.0, 1.0, 1.0)) - 255).max() <= 1
    # Light .5^2.2 = .2176 is .5039 in sRGB, 128.5.
    assert all(value in (128, 129) for value in srgb(color, 0.5, 0.5, 0.5))


def test_gamma_1_is_linear_light():
    assert srgb(CodedColor(gamma=1.0), 0.5, 0.5, 0.5) == srgb(CodedColor(transfer=LINEAR), 0.5, 0.5, 0.5)


def test_srgb_round_trip():
    levels = np.arange(256, dtype=np.float32)[:, None].repeat(3, 1) / 255
    assert (CodedColor(BT709, SRGB).to_srgb(levels)[:, 0] == np.arange(256)).all()
    assert encode_srgb(np.array([-1.0, 2.0])).tolist() == [0, 255]


def test_srgb_is_recognized_and_unknown_transfers_raise():
    assert CodedColor().is_srgb and CodedColor(6, 6).is_srgb and CodedColor(BT709, BT709).is_srgb
    for other in (CodedColor(BT2020, 14), CodedColor(BT709, PQ), CodedColor(gamma=2.2)):
        assert not other.is_srgb
    with pytest.raises(ValueError, match="expected SDR, linear light, PQ or HLG, got code 9"):
        CodedColor(BT709, 9)
