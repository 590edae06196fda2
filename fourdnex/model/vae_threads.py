"""Runs the VAE on several clips in parallel threads."""

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
"""Clips per item: on a CPU, torch's fast convolution requires a batch of two, and larger batches are not faster."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_clips(
    function: Callable[[LatentCodec, Item], Result], items: Iterable[Item], codec: LatentCodec
) -> Iterator[Result]:
    """Apply `function(codec, item)` to every item, in order, without gradients.

    On a CPU, items are processed in parallel threads, each on its share of the cores, because convolutions over short
    clips do not use all of them. The threads share the VAE's weights, and each has its own temporal cache. On a GPU,
    items are processed one by one.
    """
    workers = min(MAX_WORKERS, available_cores()) if codec.vae.device.type == "cpu" else 1
    if workers == 1 or (isinstance(items, Sized) and len(items) < 2):
        for item in items:
            with torch.inference_mode():
                result = function(codec, item)
            yield result
        return
    num_threads = torch.get_num_threads()
    local = threading.local()

    def start() -> None:
        """Create the thread's codec and set its share of the cores."""
        local.codec = LatentCodec(copy(codec.vae), codec.statistics)
        torch.set_num_threads(max(1, num_threads // workers))

    @torch.inference_mode()
    def work(item: Item) -> Result:
        """Process an item with the thread's codec."""
        return function(local.codec, item)

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
        torch.set_num_threads(num_threads)  # inherited by threads created later
