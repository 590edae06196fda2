"""The training command of the asset `adapter`: its options, its folder, its arguments."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from fourdnex.files import sha256_file
from fourdnex.training.settings import LoraTraining
from fourdnex.workspace import Workspace


class TrainingOptions(dg.Config):
    """What a training run does otherwise than by default."""

    options: dict[str, Any] = Field(
        default={}, description="Fields of fourdnex.training.settings.LoraTraining, for instance {steps: 200, seed: 1}."
    )


def adapter_folder(workspace: Workspace, *, model: str, options: Mapping[str, Any]) -> Path:
    """Where the adapter of these options goes: one folder for one base, one set of options and one set of latents.

    Raises:
        FileNotFoundError: there are no latent statistics yet.
    """
    from fourdnex.model.presets import base_digest, get_preset
    from fourdnex.training.latent_shards import shard_fingerprint, shard_names

    shards = {shard: shard_fingerprint(workspace.latents, shard) for shard in shard_names(workspace.latents)}
    content = {
        "base": base_digest(get_preset(model).location),
        "options": dict(sorted(options.items())),
        "latents": shards,
        "statistics": sha256_file(workspace.latent_statistics),
    }
    return workspace.adapter(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16])


def command_line(latents: Path, output: Path, *, model: str, options: Mapping[str, Any]) -> list[str]:
    """Arguments of the Python that trains; true and false become --name and --no-name.

    Raises:
        ValueError: an option is unknown, or names what the graph itself decides.
    """
    own = {field.name for field in fields(LoraTraining)} - {"latents", "output", "model"}
    if unknown := set(options) - own:
        raise ValueError(f"options: expected some of {sorted(own)}, got {sorted(unknown)}")
    arguments = ["-m", "fourdnex", "train", "--latents", str(latents), "--output", str(output), "--model", model]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            arguments += [f"--{flag}", *map(str, value)]
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments
