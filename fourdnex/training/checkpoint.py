"""Training checkpoints without pickle: tensors in safetensors, numbers in JSON, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fourdnex.files import atomic_dir

TENSORS, STATE = "state.safetensors", "state.json"


def save_checkpoint(
    folder: Path,
    *,
    parameters: dict[str, torch.nn.Parameter],
    averages: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Write parameters, their averages, the optimiser's moments and `state` (step, run id ...) into `folder`."""
    tensors = {f"parameter/{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
    tensors |= {f"average/{name}": value.cpu().contiguous() for name, value in averages.items()}
    for name, value in parameters.items():
        for key, moment in optimiser.state.get(value, {}).items():
            tensors[f"optimiser/{name}/{key}"] = torch.as_tensor(moment).cpu().contiguous()
    with atomic_dir(folder) as temporary:
        save_file(tensors, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps(state, indent=2))


def load_checkpoint(
    folder: Path,
    *,
    parameters: dict[str, torch.nn.Parameter],
    averages: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, in place; returns its `state`.

    Raises:
        ValueError: if the checkpoint was written for other parameters.
    """
    tensors = load_file(folder / TENSORS)
    saved = {key.removeprefix("parameter/") for key in tensors if key.startswith("parameter/")}
    if saved != set(parameters):
        raise ValueError(
            f"checkpoint {folder}: written for other parameters, e.g. {sorted(saved ^ set(parameters))[:3]}"
        )
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(tensors[f"parameter/{name}"])
            averages[name].copy_(tensors[f"average/{name}"])
            prefix = f"optimiser/{name}/"
            moments = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
            if moments:
                optimiser.state[value] = {
                    key: moment if key == "step" else moment.to(value.device) for key, moment in moments.items()
                }
    return json.loads((folder / STATE).read_text())
