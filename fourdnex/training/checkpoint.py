"""Training checkpoints without pickle: tensors in safetensors, numbers in JSON, written whole or not at all.

```
NAME.checkpoint/step-0000200-0f3a9c1b/    step, and the beginning of the run's fingerprint
    state.safetensors                    parameter/*, average/*, optimizer/*
    state.json                           step, losses, run id, sha256 of the tensors
```
The newest two of a run are kept, and those of other runs are left alone. One that was damaged later (a full disk, a
copy cut short) is told by its digest, and the run goes on from the one before it. What is random in a step is drawn
from the seed and the step alone, so the step is the state of the random numbers and the position in the data too.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fourdnex.io.files import atomic_dir, read_json, sha256_file, write_tensors
from fourdnex.model.sharding import distribute_like, unsharded

TENSORS, STATE = "state.safetensors", "state.json"
_KEPT = 2
_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run in `folder`; those of a run with another fingerprint are not its own."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint of step `state["step"]`; remove all of this run but its newest two."""
        target = self.folder / f"step-{state['step']:07d}-{self.fingerprint[:8]}"
        with atomic_dir(target) as temporary:
            write_tensors(temporary / TENSORS, tensors)
            own = {"fingerprint": self.fingerprint, "tensors_sha256": sha256_file(temporary / TENSORS)}
            (temporary / STATE).write_text(json.dumps({**state, **own}))
        self._remove(but=self._newest_first()[:_KEPT])

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint that is whole; None if there is none to go on from."""
        for path in self._newest_first():
            try:
                return _read(path, self.fingerprint)
            except (ValueError, OSError) as error:
                _LOG.warning("checkpoint %s cannot be used, looking for the one before it: %s", path, error)
        return None

    def any(self) -> bool:
        """Whether there are checkpoints of this run, whole or not."""
        return bool(self._newest_first())

    def of_others(self) -> list[Path]:
        """Checkpoints in the folder that belong to runs with another fingerprint."""
        return sorted(set(self.folder.glob("step-*")) - set(self._newest_first()))

    def remove(self) -> None:
        """Remove the run's checkpoints, and the folder if nothing else is in it."""
        self._remove()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _remove(self, but: Collection[Path] = ()) -> None:
        own = set(self.folder.glob(f"*step-*-{self.fingerprint[:8]}*"))  # half-written ones too
        for path in own.difference(but):
            shutil.rmtree(path)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob(f"step-*-{self.fingerprint[:8]}"), reverse=True)


def _read(path: Path, fingerprint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    state = read_json(path / STATE)
    if state["fingerprint"] != fingerprint:
        raise ValueError(f"{path / STATE}: fingerprint: expected {fingerprint}, got {state['fingerprint']}")
    expected, got = state["tensors_sha256"], sha256_file(path / TENSORS)
    if got != expected:
        size = (path / TENSORS).stat().st_size
        raise ValueError(f"{path / TENSORS}: expected sha256 {expected[:12]}, got {got[:12]} in {size} bytes")
    return load_file(path / TENSORS), state


def collect(
    parameters: Mapping[str, torch.nn.Parameter],
    averages: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict[str, torch.Tensor]:
    """What a checkpoint holds: parameters, their averages and the optimizer's moments, whole and on the CPU.

    Sharded tensors are gathered, so every process has to call it.
    """
    tensors: dict[str, Any] = {f"parameter/{name}": value for name, value in parameters.items()}
    tensors |= {f"average/{name}": value for name, value in averages.items()}
    for name, value in parameters.items():
        tensors |= {f"optimizer/{name}/{key}": moment for key, moment in optimizer.state.get(value, {}).items()}
    # Copies: what tensors have in common (bitsandbytes' tables) cannot be saved as such.
    return {
        key: unsharded(torch.as_tensor(value)).detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }


def restore(
    tensors: Mapping[str, torch.Tensor],
    parameters: Mapping[str, torch.nn.Parameter],
    averages: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put back in place what `collect` gave.

    Raises:
        ValueError: if the tensors are those of other parameters.
    """
    saved = {key.removeprefix("parameter/") for key in tensors if key.startswith("parameter/")}
    if saved != set(parameters):
        raise ValueError(f"checkpoint: written for other parameters, e.g. {sorted(saved ^ set(parameters))[:3]}")
    moments: dict[int, dict[str, Any]] = {}
    with torch.no_grad():
        for index, (name, value) in enumerate(parameters.items()):
            value.copy_(distribute_like(tensors[f"parameter/{name}"], value))
            averages[name].copy_(distribute_like(tensors[f"average/{name}"], value))
            prefix = f"optimizer/{name}/"
            found = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            if found:
                moments[index] = {key: _moment(value, tensor) for key, tensor in found.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _moment(parameter: torch.nn.Parameter, tensor: torch.Tensor) -> Any:
    """A number (bitsandbytes counts steps in int), a scalar tensor, or one that is laid out as its parameter is."""
    if tensor.ndim == 0:
        return tensor if tensor.is_floating_point() else int(tensor)
    return distribute_like(tensor, parameter)
