"""Selects the compute precision of a device: bfloat16 if it is faster, float32 otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from fourdnex.model.option_types import Precision

if TYPE_CHECKING:
    import torch

Resolved = Literal["fp32", "bf16"]
"""A precision after resolving auto."""


def resolve_precision(precision: Precision, device: str | torch.device) -> Resolved:
    """Resolve "auto": bf16 on a GPU and on a CPU with fast bfloat16 instructions, else fp32.

    Raises:
        ValueError: if `precision` is invalid.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {get_args(Precision)}, got {precision!r}")
    if precision != "auto":
        return precision
    return "bf16" if not str(device).startswith("cpu") or cpu_has_bfloat16() else "fp32"


def cpu_has_bfloat16() -> bool:
    """Whether this processor supports fast bfloat16 matrix products (AMX or AVX512-BF16).

    Without these instructions bfloat16 works, but is slower than float32.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    # Private functions, which may be missing in other versions of PyTorch.
    names = (
        "_is_amx_tile_supported",
        "_is_avx512_bf16_supported",
    )
    checks: list[Callable[[], bool] | None] = [getattr(torch.cpu, name, None) for name in names]
    return any(check() for check in checks if check is not None)
