"""FirstBlockCache, with a count of its hits.

If the residual of the first block is close to that of the last full pass, the output of the other blocks is reused
from that pass (ParaAttention; diffusers' `FirstBlockCacheConfig`). The comparison is one mean over the whole batch, so
a clip is independent of other clips only in a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers import FirstBlockCacheConfig

from fourdnex.model.transformer import SixDTransformer


@dataclass
class Passes:
    """Number of forward passes of the transformer."""

    total: int = 0
    full: int = 0
    """Passes that ran all blocks."""

    def __add__(self, other: Passes) -> Passes:
        """Sum of both counts."""
        return Passes(self.total + other.total, self.full + other.full)

    @property
    def cache_hits(self) -> int:
        """Passes that reused cached outputs."""
        return self.total - self.full

    def to_json(self) -> dict[str, int]:
        """Counts for a scene's provenance."""
        return {"forward_passes": self.total, "cache_hits": self.cache_hits}


@contextmanager
def counted_passes(transformer: SixDTransformer, cache_threshold: float = 0.0) -> Iterator[Passes]:
    """Context that counts forward passes, with a new empty cache if the threshold is above 0.

    Raises:
        ValueError: if a cache is requested for a transformer with one block.
    """
    if cache_threshold and len(transformer.blocks) < 2:
        raise ValueError("cache_threshold: expected 0 for a transformer with one block, which has no blocks to skip")
    passes = Passes()

    def count_total(*_: Any) -> None:
        passes.total += 1

    def count_full(*_: Any) -> None:
        passes.full += 1

    # The last block's attention runs only in full passes.
    handles = [
        transformer.register_forward_hook(count_total),
        transformer.blocks[-1].attn1.register_forward_hook(count_full),
    ]
    if cache_threshold:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=cache_threshold))
    try:
        yield passes
    finally:
        if cache_threshold:
            transformer.disable_cache()
        for handle in handles:
            handle.remove()
