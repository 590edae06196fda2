"""Weights spread over processes by FSDP2: for a base that one GPU cannot hold.

Each block is a unit of its own: its weights are gathered when it runs and dropped after it, so a process holds its
share of the base and one whole block. The frozen base may be in bfloat16 beside an adapter in float32. Source:
PyTorch's `fully_shard`, after torchtitan.
"""

from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(transformer: WanTransformer3DModel) -> None:
    """Spread `transformer` over the processes of the default group, in place; its parameters become `DTensor`s.

    On a GPU machine it moves there, block by block. Give the parameters to the optimizer afterwards.
    """
    for block in transformer.blocks:
        fully_shard(block)
    fully_shard(transformer)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as it is without sharding; gathers a sharded one, so every process has to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of the tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def laid_out_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole `tensor`, the same in all processes, on the device and spread as `other` is."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)
