"""Bytes of tensors that are alive at once while PyTorch runs, on real tensors or on fake ones that hold no data.

Fake tensors (PyTorch's own `FakeTensorMode`) go through the same operations as real ones, autograd and its saved
tensors included, so a 14 B model's step can be followed on a laptop. They run as CPU tensors, because autograd cannot
run for a device that is not there; `use_gpu_kernels` puts in what a GPU keeps differently.

What kernels allocate inside themselves is not seen, but for convolutions, which need more than all else in the VAE
(`convolution_workspace`). Attention's backward pass on a GPU takes a float32 copy of the queries' gradient on top.
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
    """Within the context, follows every tensor that an operation gives back until nothing holds its storage.

    Tensors from outside count only when given to `watch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        """Bytes alive now."""
        self.peak = 0
        """The most bytes that were alive at once."""
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def watch(self, *tensors: torch.Tensor) -> None:
        """Count tensors that were there before; views of one storage count once."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._alive:
                continue

            def gone(_: object, key: int = key, size: int = size) -> None:
                self.current -= size
                del self._alive[key]

            self._alive[key] = weakref.ref(storage, gone)
            self.current += size
            self.peak = max(self.peak, self.current)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.watch(*(item for item in tree_iter(result) if isinstance(item, torch.Tensor)))
        if func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.current + convolution_workspace(args[0], args[1], result))
        return result


def convolution_workspace(values: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> int:
    """Bytes that a convolution takes beside its tensors while it runs.

    OneDNN and cuDNN's tensor core kernels compute in a layout of their own: input and weights are copied into it, and
    the result out of it. PyTorch gives OneDNN only inputs of some size; below it unfolds them to one column an output
    (the condition is that of `use_mkldnn` in ATen's Convolution.cpp).
    """
    if values.shape[0] == 1 and math.prod(values.shape[:4]) <= _FEW_ROWS and max(weight.shape[2:]) <= 3:
        columns = math.prod(weight.shape[1:]) * math.prod(result.shape[2:])
        return columns * values.element_size()
    return max(values.nbytes + weight.nbytes, result.nbytes)


_FEW_ROWS = 20480


def materialize(module: nn.Module) -> None:
    """Give a module that was built on the meta device small random parameters and buffers, in place; ties stay.

    Within a `FakeTensorMode` they are fake.
    """
    originals = [*module.parameters(), *module.buffers()]
    made = {id(value): _random(value) for value in originals}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = made[id(buffer)]


def _random(like: torch.Tensor) -> torch.Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    value = (0.02 * torch.rand(like.shape)).to(like.dtype)
    return nn.Parameter(value, requires_grad=like.requires_grad) if isinstance(like, nn.Parameter) else value


def use_gpu_kernels(module: nn.Module) -> None:
    """Let a fake module keep in memory what it keeps on a GPU, in place.

    One thing differs in these models. On a CPU `rms_norm` is a chain of elementwise operations whose intermediate
    results autograd saves; on a GPU it is one kernel that saves its input and one number a row, and under autocast it
    takes and gives float32. Attention needs nothing: flash attention saves the same on both.
    """
    for part in module.modules():
        if isinstance(part, nn.RMSNorm):
            part.forward = MethodType(_fused_rms_norm, part)  # type: ignore[method-assign]


def _fused_rms_norm(self: nn.RMSNorm, values: torch.Tensor) -> torch.Tensor:
    return _FusedRmsNorm.apply(values.float() if torch.is_autocast_enabled("cpu") else values, self.weight)


class _FusedRmsNorm(torch.autograd.Function):
    """The memory of the kernel, not its numbers: saves input, weight and one float32 a row."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values, weight, values.new_empty(values.shape[:-1], dtype=torch.float32))
        return torch.empty_like(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.empty_like(gradients[0]), None
