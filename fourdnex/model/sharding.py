"""Sharding of weights over processes with FSDP2, for a base that does not fit on one GPU.

Each block is sharded separately: its weights are gathered when it runs and freed afterwards, so a process holds its
shard of the base and one full block. The frozen base may be in bfloat16 and the adapter in float32. Source: PyTorch's
`fully_shard`, as used in torchtitan.
"""

from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(transformer: WanTransformer3DModel) -> None:
    """Shard `transformer` over the processes of the default group, in place; its parameters become `DTensor`s.

    With GPUs, moves it there block by block. Create the optimizer afterwards.
    """
    for block in transformer.blocks:
        fully_shard(block)
    fully_shard(transformer)


def unsharded(tensor: torch.Tensor) -> torch.Tensor:
    """The unsharded tensor. Gathers a sharded tensor, so every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This process's shard of the tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def distribute_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Distribute an unsharded `tensor`, equal in all processes, to the device and sharding of `other`."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)
