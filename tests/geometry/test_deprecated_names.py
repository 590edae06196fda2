import numpy as np
import pytest

from fourdnex import geometry


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("Normalisation", geometry.Normalization),
        ("denormalise_pointmaps", geometry.denormalize_pointmaps),
        ("normalise_pointmaps", geometry.normalize_pointmaps),
    ],
)
def test_former_names_still_work_with_a_warning(former, current):
    with pytest.deprecated_call(match=f"geometry.{former} is deprecated: use {current.__name__}"):
        assert getattr(geometry, former) is current


def test_former_names_can_be_imported():
    with pytest.deprecated_call():
        from fourdnex.geometry import normalise_pointmaps
    normalized, _ = normalise_pointmaps(np.random.default_rng(0).random((2, 8, 8, 3)))
    assert normalized.shape == (2, 8, 8, 3)


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = geometry.nothing
