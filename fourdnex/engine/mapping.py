"""The map over items that all engines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar, get_args

from fourdnex.engine.attempts import Failure, attempt
from fourdnex.extras import require

Engine = Literal["local", "ray"]
R = TypeVar("R")


def check_engine(engine: str, workers: int) -> None:
    """Check the settings of `map_items` without starting anything.

    Raises:
        ValueError: an invalid setting.
        MissingExtraError: the engine is not installed.
    """
    if engine not in get_args(Engine):
        raise ValueError(f"engine: expected one of {', '.join(get_args(Engine))}, got {engine!r}")
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if engine == "ray":
        require("ray", feature="engine ray")


def map_items(
    work: Callable[[str], R], items: Sequence[str], *, engine: Engine = "local", workers: int = 1
) -> Iterator[tuple[str, R | Failure]]:
    """Yield each item with the result of `work`, or the reason of its failure, as soon as it is finished.

    The other items go on if one fails. An item whose worker process ends (killed, out of memory) is tried again, since
    another item may be the cause; only an item that ends its worker twice fails. `work` must therefore be repeatable.

    Args:
        work: a function that can be pickled, such as `functools.partial` of a function of a module. What it caches in
            its process, such as a model, serves all items of a worker. Its results can be pickled too.
        items: names of the items.
        engine: "local" for processes of this machine; "ray" for Ray Data on the cluster that RAY_ADDRESS names, or on
            one that is started on this machine.
        workers: number of processes. With one, "local" works in this process.

    Raises:
        ValueError: an invalid setting.
        MissingExtraError: the engine is not installed.
    """
    check_engine(engine, workers)
    if engine == "ray":
        from fourdnex.engine.ray_data import map_with_ray

        return map_with_ray(work, items, workers=workers)
    if workers == 1:
        return ((item, attempt(work, item)) for item in items)
    from fourdnex.engine.processes import map_with_processes

    return map_with_processes(work, items, workers=workers)
