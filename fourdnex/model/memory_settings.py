"""Settings for precision and memory savings in generation. Imports no torch: the command line reads this class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from fourdnex.model.option_types import Precision

Offload = Literal["none", "encoders", "all"]
OFFLOAD: tuple[Offload, ...] = get_args(Offload)
INEXACT = ("fp8_storage", "vae_tiling")
"""Options that change the values of generated scenes."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Compute precision, and options that reduce GPU memory; `fourdnex plan` reports which ones are needed."""

    precision: Precision = "auto"
    """Compute precision of the transformer, and on a CPU also of the VAE. auto: bf16 on a GPU and on a CPU with fast
    bfloat16 instructions (AMX, AVX512-BF16), else fp32."""
    offload: Offload = "none"
    """Keep weights in host memory and move them to the GPU when needed, prefetching the next ones. encoders: the text
    and image encoders, layer by layer; all: also the transformer, block by block. Results are identical."""
    fp8_storage: bool = False
    """Store the transformer's weights in 8 bits and compute in 16; the adapter and the norms keep their precision.
    Slightly less exact. Cannot be combined with a step-distilled LoRA."""
    vae_tiling: bool = False
    """Encode and decode in overlapping tiles of 256 pixels, blended at their borders."""

    def __post_init__(self) -> None:
        if self.offload not in OFFLOAD:
            raise ValueError(f"offload: expected one of {OFFLOAD}, got {self.offload!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: expected one of {get_args(Precision)}, got {self.precision!r}")

    def changes(self) -> dict[str, Any]:
        """Settings that a scene's identity includes: an explicit precision, and the enabled inexact options."""
        named = {} if self.precision == "auto" else {"precision": self.precision}
        return named | {name: True for name in INEXACT if getattr(self, name)}
