"""FirstBlockCache with a count of what it saved.

Where the first block changes the latents nearly as it did at the last full pass, the other blocks' part of that pass is
taken again (ParaAttention; diffusers' `FirstBlockCacheConfig`). The comparison is one mean over the whole batch, so a
clip is independent of its batch only if it runs alone.
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
    """Forward passes of the transformer."""

    total: int = 0
    full: int = 0
    """Those that ran all blocks."""

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.total + other.total, self.full + other.full)

    @property
    def cache_hits(self) -> int:
        return self.total - self.full

    def to_json(self) -> dict[str, int]:
        """As provenance keeps it."""
        return {"forward_passes": self.total, "cache_hits": self.cache_hits}


@contextmanager
def counted_passes(transformer: SixDTransformer, cache_threshold: float = 0.0) -> Iterator[Passes]:
    """Count the forward passes within, with an empty cache of their own if the threshold is above 0.

    Raises:
        ValueError: for a cache on a transformer of one block.
    """
    if cache_threshold and len(transformer.blocks) < 2:
        raise ValueError("cache_threshold: expected 0 for a transformer of one block: there is none after it to skip")
    passes = Passes()

    def count_total(*_: Any) -> None:
        passes.total += 1

    def count_full(*_: Any) -> None:
        passes.full += 1

    # Attention of the last block is called by the pass itself and by nothing that stands in for it.
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
