"""Paired comparison of adapters: intervals, determinism, and invalid input."""

import math

import numpy as np
import pytest

from fourdnex.evaluation.comparison import compare, mean_log_error


def errors(rng: np.random.Generator, count: int = 64, factor: float = 1.0, spread: float = 0.2) -> dict:
    """Errors by world; the difficulty of a world is the same for all models."""
    difficulty = np.random.default_rng(0).normal(0, 0.5, count)
    values = factor * np.exp(difficulty + rng.normal(0, spread, (2, count)))
    return {f"w{k}": {"abs_rel": float(values[0, k]), "chamfer": float(values[1, k])} for k in range(count)}


def test_the_ratio_is_the_geometric_mean_over_worlds_and_metrics():
    reference = errors(np.random.default_rng(1))
    worlds = {
        name: {"abs_rel": 0.8 * own["abs_rel"], "chamfer": 0.9 * own["chamfer"]} for name, own in reference.items()
    }
    found = compare(worlds, reference)
    assert found.ratio == pytest.approx(math.sqrt(0.8 * 0.9)) and found.num_worlds == 64
    assert found.by_metric == pytest.approx({"abs_rel": 0.8, "chamfer": 0.9})
    assert found.is_better and found.low == pytest.approx(found.high)
    assert mean_log_error(worlds) < mean_log_error(reference)


def test_the_interval_covers_the_truth_as_often_as_it_claims():
    """Of 200 comparisons of equal models, 5 % may claim a difference: at most 20 with probability .999."""
    rng = np.random.default_rng(2)
    found = [compare(errors(rng, 32), errors(rng, 32)) for _ in range(200)]
    assert sum(not each.low <= 1 <= each.high for each in found) <= 20


def test_a_comparison_is_deterministic_and_ignores_the_order_of_worlds():
    rng = np.random.default_rng(3)
    worlds, reference = errors(rng), errors(rng)
    assert compare(worlds, reference) == compare(dict(reversed(worlds.items())), reference)
    assert str(compare(worlds, reference)).endswith("64 worlds)")


def test_non_inferiority_needs_the_whole_interval():
    rng = np.random.default_rng(4)
    found = compare(errors(rng, factor=1.01, spread=0.05), errors(rng, spread=0.05))
    assert found.is_not_worse(0.1) and not found.is_not_worse(0.0)


@pytest.mark.parametrize(("change", "message"), [
    (lambda own: own.pop("w0"), "worlds: expected the same for both"),
    (lambda own: own["w0"].pop("chamfer"), "w0: chamfer: expected a positive error, got None"),
    (lambda own: own["w0"].update(abs_rel=math.nan), "w0: abs_rel: expected a positive error, got nan"),
    (lambda own: own["w0"].update(abs_rel=0.0), "w0: abs_rel: expected a positive error, got 0.0"),
])  # fmt: skip
def test_invalid_errors_are_named(change, message):
    worlds, reference = errors(np.random.default_rng(5)), errors(np.random.default_rng(6))
    change(worlds)
    with pytest.raises(ValueError, match=message):
        compare(worlds, reference)


def test_too_few_worlds_and_invalid_settings_are_refused():
    worlds = errors(np.random.default_rng(7), 7)
    with pytest.raises(ValueError, match="worlds: expected at least 8, got 7"):
        compare(worlds, worlds)
    with pytest.raises(ValueError, match="confidence: expected a number between 0 and 1, got 95"):
        compare(worlds, worlds, confidence=95)
