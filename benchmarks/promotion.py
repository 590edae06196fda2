"""Promotion: how often the comparison promotes equal and better models, and whether the champion drifts.

Models are simulated by their errors on the worlds of an evaluation: the error of a model on a world is the difficulty
of the world, times the model's true level, times what a retraining with another seed changes. `--spread` is the
standard deviation of the last factor (natural logarithm), for each metric; the others are drawn once. The former
policy, at most 2 % worse than the last champion in the mean of each metric, is shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.reporting import argument_parser, print_table
from fourdnex.evaluation.comparison import METRICS, compare, mean_log_error

Errors = dict[str, dict[str, float]]
DIFFICULTY = 0.44
"""Standard deviation of log AbsRel over the held-out worlds, as measured with the demo's adapter."""
LEVEL = 0.135
RETRAININGS = 50


def main() -> None:
    """Simulate and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--worlds", type=int, nargs="+", default=[64, 128, 256], help="held-out worlds")
    parser.add_argument("--spread", type=float, default=0.25, help="spread of a retraining on one world")
    parser.add_argument("--trials", type=int, default=200, help="comparisons per row")
    arguments = parser.parse_args()
    rows = []
    for count in arguments.worlds:
        for title, promote in (("interval below 0", _is_better), ("at most 2 % worse, in the mean", _former)):
            rng = np.random.default_rng(0)
            worlds = rng.normal(0, DIFFICULTY, count)

            def model(level: float, rng: np.random.Generator = rng, worlds: np.ndarray = worlds) -> Errors:
                return _model(level, worlds, arguments.spread, rng)

            equal = np.mean([promote(model(LEVEL), model(LEVEL)) for _ in range(arguments.trials)])
            better = np.mean([promote(model(0.9 * LEVEL), model(LEVEL)) for _ in range(arguments.trials)])
            drift = [_drift(model, promote, rng) for _ in range(max(1, arguments.trials // 20))]
            rows.append([title, count, f"{equal:.1%}", f"{better:.1%}", f"{max(drift) - 1:+.1%}"])
    columns = ("promoted if", "worlds", "equal models promoted", "10 % better promoted", "drift, worst run")
    print_table(f"{arguments.trials} comparisons, {RETRAININGS} retrainings a run", columns, rows)


def _model(level: float, worlds: np.ndarray, spread: float, rng: np.random.Generator) -> Errors:
    """Errors by world of a model of a true level."""
    values = {metric: level * np.exp(worlds + rng.normal(0, spread, len(worlds))) for metric in METRICS}
    return {f"world-{k}": {metric: float(own[k]) for metric, own in values.items()} for k in range(len(worlds))}


def _is_better(challenger: Errors, reference: Errors) -> bool:
    """The policy."""
    return compare(challenger, reference).is_better


def _former(challenger: Errors, reference: Errors) -> bool:
    """The former policy."""
    own, other = (_means(challenger), _means(reference))
    return all(mean <= 1.02 * limit for mean, limit in zip(own, other, strict=True))


def _means(errors: Errors) -> list[float]:
    """Mean error over the worlds, by metric."""
    return [float(np.mean([each[metric] for each in errors.values()])) for metric in METRICS]


def _drift(
    model: Callable[[float], Errors], promote: Callable[[Errors, Errors], bool], rng: np.random.Generator
) -> float:
    """The champion's true level after retrainings whose levels differ by 1 %, relative to the best champion's ever."""
    champions = [(LEVEL, model(LEVEL))]
    for _ in range(RETRAININGS):
        level = LEVEL * math.exp(rng.normal(0, 0.01))
        challenger = model(level)
        reference = champions[-1] if promote is _former else min(champions, key=lambda each: mean_log_error(each[1]))
        if promote(challenger, reference[1]):
            champions.append((level, challenger))
    return champions[-1][0] / min(level for level, _ in champions)


if __name__ == "__main__":
    main()
