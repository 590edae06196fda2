"""Tracks the bytes of live tensors while PyTorch runs, for real tensors or fake tensors without data.

Fake tensors (PyTorch's `FakeTensorMode`) run through the same operations as real ones, including autograd and its
saved tensors, so a step of a 14 B model can be tracked on a laptop. They run as CPU tensors, because autograd requires
that the device exists; `use_gpu_kernels` replaces operations that save different tensors on a GPU.

Allocations inside kernels are not tracked, except for convolutions, whose workspaces dominate in the VAE
(`convolution_workspace`). Not included: on a GPU, attention's backward pass needs a float32 copy of the gradient of the
queries.
"""

from __future__ import annotations

import math
import weakref
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Allocations(TorchDispatchMode):
    """Context that tracks every tensor returned by an operation until its storage is freed.

    Tensors created outside the context count only if passed to `watch`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = 0
        """Live bytes."""
        self.peak = 0
        """Maximum of live bytes."""
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def watch(self, *tensors: torch.Tensor) -> None:
        """Count existing tensors; views of the same storage count once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._alive:
                continue

            def release(_: object, key: int = key, size: int = size) -> None:
                self.current -= size
                del self._alive[key]

            self._alive[key] = weakref.ref(storage, release)
            self.current += size
            self.peak = max(self.peak, self.current)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run an operation and track its results."""
        result = func(*args, **(kwargs or {}))
        self.watch(*(item for item in tree_iter(result) if isinstance(item, torch.Tensor)))
        if func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.current + convolution_workspace(args[0], args[1], result))
        return result


def convolution_workspace(values: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> int:
    """Workspace bytes of a convolution, beyond its input, weights and result.

    OneDNN and cuDNN's tensor core kernels compute in their own layout: input and weights are copied to it, and the
    result from it. PyTorch does not use OneDNN for small inputs, and unfolds them to one column per output instead (the
    condition is that of `use_mkldnn` in ATen's Convolution.cpp).
    """
    if values.shape[0] == 1 and math.prod(values.shape[:4]) <= _SMALL_INPUT and max(weight.shape[2:]) <= 3:
        columns = math.prod(weight.shape[1:]) * math.prod(result.shape[2:])
        return columns * values.element_size()
    return max(values.nbytes + weight.nbytes, result.nbytes)


_SMALL_INPUT = 20480


def materialize(module: nn.Module) -> None:
    """Initialize a module from the meta device with small random parameters and buffers, in place; ties are preserved.

    In a `FakeTensorMode` the tensors are fake.
    """
    originals = [*module.parameters(), *module.buffers()]
    materialized = {id(value): _random_like(value) for value in originals}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = materialized[id(parameter)]  # type: ignore[assignment]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = materialized[id(buffer)]


def _random_like(like: torch.Tensor) -> torch.Tensor:
    """A small random tensor or parameter with the shape and dtype of `like`; zeros for integers."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    value = (0.02 * torch.rand(like.shape)).to(like.dtype)
    return nn.Parameter(value, requires_grad=like.requires_grad) if isinstance(like, nn.Parameter) else value


def use_gpu_kernels(module: nn.Module) -> None:
    """Make a fake module save the same tensors for backward as on a GPU, in place.

    In these models only `rms_norm` differs. On a CPU it is a chain of elementwise operations, and autograd saves their
    intermediate results; on a GPU it is one kernel that saves its input and one value per row, and that computes in
    float32 under autocast. Flash attention saves the same tensors on both.
    """
    for part in module.modules():
        if isinstance(part, nn.RMSNorm):
            part.forward = MethodType(_fused_rms_norm, part)  # type: ignore[method-assign]


def _fused_rms_norm(self: nn.RMSNorm, values: torch.Tensor) -> torch.Tensor:
    """Forward method of an RMS norm with the memory of the GPU kernel."""
    return _FusedRmsNorm.apply(  # type: ignore[no-untyped-call]
        values.float() if torch.is_autocast_enabled("cpu") else values, self.weight
    )


class _FusedRmsNorm(torch.autograd.Function):
    """Memory of the GPU kernel without its values: saves input, weight and one float32 per row."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """An empty result."""
        ctx.save_for_backward(values, weight, values.new_empty(values.shape[:-1], dtype=torch.float32))
        return torch.empty_like(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """An empty gradient of the input."""
        return torch.empty_like(gradients[0]), None
