"""Map over items with Ray Data: actors keep what they have loaded, and Ray replaces those that end."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from fourdnex.engine.attempts import CRASHED, Failure, attempt

R = TypeVar("R")


class _Worker:
    """One actor; a row holds an item, and the result as bytes, which Ray carries as they are."""

    def __init__(self, work: Callable[[str], Any]) -> None:
        """Prepare the work."""
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Work on the item of one row."""
        return {"item": row["item"], "result": pickle.dumps(attempt(self.work, row["item"]))}


def map_with_ray(work: Callable[[str], R], items: Sequence[str], *, workers: int) -> Iterator[tuple[str, R | Failure]]:
    """See `map_items`; the cluster stays connected for the next call of this process.

    Each actor reserves its share of the cluster's CPUs, and of its GPUs where there are any.
    """
    import ray
    import ray.data

    if not items:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors of items are returned
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # an item that ends its actor each time does not end the others
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    done = rows.map(
        cast("Any", _Worker),
        fn_constructor_args=(work,),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=max(1, int(resources.get("CPU", 1)) // workers),
        num_gpus=resources["GPU"] / workers if resources.get("GPU") else None,
        max_task_retries=1,
    )
    missing = dict.fromkeys(items)
    for row in done.iter_rows():
        del missing[row["item"]]
        yield row["item"], pickle.loads(row["result"])
    for item in missing:
        yield item, Failure(CRASHED)
