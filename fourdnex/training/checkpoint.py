"""Training checkpoints without pickle: tensors in safetensors, numbers in JSON, written atomically.

```
NAME.checkpoint/step-0000200-0f3a9c1b/    step, and the first digits of the run's fingerprint
    state.safetensors                    parameter/*, average/*, optimizer/*
    state.json                           step, losses, run id, sha256 of the tensors
```
The newest two checkpoints of a run are kept; those of other runs are not touched. A damaged checkpoint (for example a
truncated copy) is detected by its digest, and the run resumes from the one before it. The random numbers of a step
depend only on the seed and the step, so that the step is also the state of the random generators and of the data order.
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
    """The checkpoints in `folder` of the run with this fingerprint."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint of step `state["step"]`, and remove all but the newest two of this run."""
        target = self.folder / f"step-{state['step']:07d}-{self.fingerprint[:8]}"
        with atomic_dir(target) as temporary:
            write_tensors(temporary / TENSORS, tensors)
            digests = {"fingerprint": self.fingerprint, "tensors_sha256": sha256_file(temporary / TENSORS)}
            (temporary / STATE).write_text(json.dumps({**state, **digests}))
        self._remove(keep=self._newest_first()[:_KEPT])

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest valid checkpoint; None if there is none."""
        for path in self._newest_first():
            try:
                return _read(path, self.fingerprint)
            except (ValueError, OSError) as error:
                _LOG.warning("checkpoint %s cannot be used, trying the one before it: %s", path, error)
        return None

    def any(self) -> bool:
        """Whether there are checkpoints of this run, valid or damaged."""
        return bool(self._newest_first())

    def of_others(self) -> list[Path]:
        """Checkpoints in the folder of runs with other fingerprints."""
        return sorted(set(self.folder.glob("step-*")) - set(self._newest_first()))

    def remove(self) -> None:
        """Remove the checkpoints of this run, and the folder if it is empty afterwards."""
        self._remove()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _remove(self, keep: Collection[Path] = ()) -> None:
        """Remove the checkpoints of this run except `keep`, incomplete ones included."""
        paths = set(self.folder.glob(f"*step-*-{self.fingerprint[:8]}*"))
        for path in paths.difference(keep):
            shutil.rmtree(path)

    def _newest_first(self) -> list[Path]:
        """Folders of the checkpoints of this run."""
        return sorted(self.folder.glob(f"step-*-{self.fingerprint[:8]}"), reverse=True)


def _read(path: Path, fingerprint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint; raises ValueError or OSError if it is damaged."""
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
    """Tensors of a checkpoint: parameters, averages and the optimizer's moments, unsharded and on the CPU.

    Gathers sharded tensors, so every process must call it.
    """
    tensors: dict[str, Any] = {f"parameter/{name}": value for name, value in parameters.items()}
    tensors |= {f"average/{name}": value for name, value in averages.items()}
    for name, value in parameters.items():
        tensors |= {f"optimizer/{name}/{key}": moment for key, moment in optimizer.state.get(value, {}).items()}
    # Copies, since safetensors cannot save tensors that share memory (the tables of bitsandbytes).
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
    """Restore the tensors of `collect`, in place.

    Raises:
        ValueError: the checkpoint was written for other parameters.
    """
    saved = {key.removeprefix("parameter/") for key in tensors if key.startswith("parameter/")}
    if saved != set(parameters):
        differ = sorted(saved ^ set(parameters))
        raise ValueError(f"checkpoint: expected the parameters of this run, got others, e.g. {differ[:3]}")
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
    """Optimizer state in its original form: an int (bitsandbytes), a scalar, or a tensor sharded as its parameter."""
    if tensor.ndim == 0:
        return tensor if tensor.is_floating_point() else int(tensor)
    return distribute_like(tensor, parameter)
