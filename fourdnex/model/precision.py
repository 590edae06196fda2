"""Which precision a device computes in: bfloat16 where it is faster, float32 elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast, get_args

from fourdnex.model.option_types import Precision

if TYPE_CHECKING:
    import torch

Resolved = Literal["fp32", "bf16"]


def resolve_precision(precision: Precision, device: str | torch.device) -> Resolved:
    """`precision` itself; for "auto" bf16 on a GPU and on a CPU with instructions for it, else fp32.

    Raises:
        ValueError: if it is none of the three.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {get_args(Precision)}, got {precision!r}")
    if precision != "auto":
        return cast(Resolved, precision)
    return "bf16" if not str(device).startswith("cpu") or cpu_has_bfloat16() else "fp32"


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones: by AMX or AVX512-BF16.

    Without these instructions bfloat16 works too, but slower than float32.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private: absent in other versions of PyTorch
    checks: list[Callable[[], bool] | None] = [getattr(torch.cpu, name, None) for name in names]
    return any(check() for check in checks if check is not None)
