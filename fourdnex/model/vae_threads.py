"""Several clips at a time through the VAE."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import TypeVar

import torch

from fourdnex.cores import available_cores
from fourdnex.latents.codec import LatentCodec

MAX_WORKERS = 4
CLIPS_TOGETHER = 2
"""Clips in one item: on a CPU torch's fast convolution begins at two, and more gain nothing."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_clips(
    function: Callable[[LatentCodec, Item], Result], items: Iterable[Item], codec: LatentCodec
) -> Iterator[Result]:
    """`function(codec, item)` for every item, in order, without gradients.

    On a CPU several items are worked on at a time, each on its share of the cores: convolutions over short clips do not
    fill them all. Every worker has the VAE's weights in common and its temporal cache for itself. On a GPU, where a
    clip fills it, one after another.
    """
    workers = min(MAX_WORKERS, available_cores()) if codec.vae.device.type == "cpu" else 1
    if workers == 1 or (isinstance(items, Sized) and len(items) < 2):
        for item in items:
            with torch.inference_mode():
                result = function(codec, item)
            yield result
        return
    before = torch.get_num_threads()
    own = threading.local()

    def start() -> None:
        own.codec = LatentCodec(copy(codec.vae), codec.statistics)
        torch.set_num_threads(max(1, before // workers))

    @torch.inference_mode()
    def work(item: Item) -> Result:
        return function(own.codec, item)

    pending: deque[Future[Result]] = deque()
    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(before)  # what threads that begin later start with
