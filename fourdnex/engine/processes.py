"""Map over items in processes of this machine, each on its share of the cores."""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from fourdnex.cores import available_cores
from fourdnex.engine.attempts import CRASHED, Failure, attempt

R = TypeVar("R")


def map_with_processes(
    work: Callable[[str], R], items: Sequence[str], *, workers: int
) -> Iterator[tuple[str, R | Failure]]:
    """See `map_items`. After a worker has ended, the items that were running are tried again one at a time."""
    waiting = deque(items)
    suspects: deque[str] = deque()
    while waiting:
        yield from _map_until_crash(work, waiting, suspects, workers)
    while suspects:
        item = suspects.popleft()
        lost: deque[str] = deque()
        yield from _map_until_crash(work, deque([item]), lost, 1)
        if lost:
            yield item, Failure(CRASHED)


def _map_until_crash(
    work: Callable[[str], R], waiting: deque[str], lost: deque[str], workers: int
) -> Iterator[tuple[str, R | Failure]]:
    """Work through `waiting`; if a worker ends, put the items that were running into `lost` and return."""
    context = get_context("spawn")
    started = context.Value("i", 0)
    running: dict[Future[R | Failure], str] = {}
    settings = (started, workers, pickle.dumps(work))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=settings)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running[pool.submit(_run, waiting[0])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield running.pop(future), result
    except BrokenProcessPool:
        lost += running.values()
    finally:
        pool.shutdown(cancel_futures=True)


_work: Callable[[str], Any]
"""The work of this process, which keeps what it has loaded."""


def _run(item: str) -> Any:
    """Attempt one item in a worker."""
    return attempt(_work, item)


def _start(started: Any, workers: int, work: bytes) -> None:
    """Restrict a new worker to its share of the cores, before libraries start their threads, and unpickle the work."""
    global _work
    with started.get_lock():
        number = started.value % workers
        started.value += 1
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    share = max(1, available_cores() // workers)
    if cores:
        os.sched_setaffinity(0, [cores[(number * share + k) % len(cores)] for k in range(share)])
    _work = pickle.loads(work)
