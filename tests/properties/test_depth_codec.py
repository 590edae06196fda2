import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fourdnex.io.depth_codec import decode_depth, encode_depth
from tests.properties.strategies import SMALL, depths

# The relative error is at most half a step of 1e-3, and float32 rounds.
MAX_ERROR = 5e-4 + 1e-6
maps = st.tuples(SMALL, SMALL, SMALL).flatmap(lambda shape: depths(shape, low=2**-20, high=2**20))


@given(maps)
def test_depth_is_restored_within_half_a_step_and_invalid_pixels_stay_invalid(depth):
    restored = decode_depth(*encode_depth(depth))
    valid = np.isfinite(depth)
    assert restored.dtype == np.float32 and restored.shape == depth.shape
    assert np.isnan(restored[~valid]).all()
    assert (np.abs(restored[valid] / depth[valid] - 1) <= MAX_ERROR).all()


@given(maps)
def test_codes_are_monotonic(depth):
    codes, mapping = encode_depth(depth)
    order = np.argsort(depth[np.isfinite(depth)], kind="stable")
    for values in (codes, decode_depth(codes, mapping)):
        assert (np.diff(values[np.isfinite(depth)][order].astype(np.float64)) >= 0).all()


@given(maps)
def test_decoded_depth_is_encoded_without_further_loss(depth):
    decoded = decode_depth(*encode_depth(depth))
    again = decode_depth(*encode_depth(decoded))
    assert np.allclose(again, decoded, rtol=1e-6, atol=0, equal_nan=True)


@given(depths((2, 3, 4), low=2**-100, high=2**100))
def test_the_largest_range_of_float32_stays_within_the_codes(depth):
    codes, mapping = encode_depth(depth)
    assert 1 <= mapping["codes"] <= 65534 and codes.max() <= mapping["codes"] + 1
    # far / near is beyond 10^28: a step is larger, at most 2e-3.
    restored, valid = decode_depth(codes, mapping), np.isfinite(depth)
    assert (np.abs(restored[valid] / depth[valid] - 1) <= 2.2e-3).all()
