"""The training command of the asset `adapter`: its options, output folder and arguments."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from fourdnex.commands.renamed_options import current_fields
from fourdnex.io.files import sha256_file
from fourdnex.model.recipe import ENCODED_CHOICES, recorded
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.workspace import Workspace
from orchestration.project import DEPTH_NETWORK_VARIABLE

MODEL_VARIABLE = "FOURDNEX_MODEL"
OPTIONS_VARIABLE = "FOURDNEX_TRAINING_OPTIONS"
"""Environment variable with the options of every training run, a JSON object."""
_SET_BY_GRAPH = ("latents", "output", "model")


class TrainingOptions(dg.Config):
    """Options of one training run that differ from the defaults."""

    options: dict[str, Any] = Field(
        default={},
        description="Fields of fourdnex.training.lora_settings.LoraTraining, for instance {steps: 200, seed: 1}.",
    )

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """The options under their current names; those that latents are encoded with are rejected."""
        options = current_fields(options, source="options")
        _check_xyz_init(options, "options")
        if encoded := encoding_options(options):
            raise ValueError(
                f"options: expected no options that latents are encoded with, got {encoded}: set it in "
                f"{OPTIONS_VARIABLE}"
            )
        return options


def default_training_options() -> dict[str, Any]:
    """The options of every training run, from FOURDNEX_TRAINING_OPTIONS.

    If the base comes with a depth network, `xyz_init` is "pointmap" unless the variable sets it.

    Raises:
        ValueError: the variable is not a JSON object, or requires a depth network that is missing.
    """
    text = os.environ.get(OPTIONS_VARIABLE) or "{}"
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{OPTIONS_VARIABLE}: expected a JSON object, got {text!r} ({error})") from error
    if not isinstance(options, dict):
        raise ValueError(f"{OPTIONS_VARIABLE}: expected a JSON object, got {text!r}")
    options = current_fields(options, source=OPTIONS_VARIABLE)
    if _base_depth_network() is not None:
        options = {"xyz_init": "pointmap"} | options
    _check_xyz_init(options, OPTIONS_VARIABLE)
    return options


def depth_network_options() -> dict[str, str]:
    """The network in FOURDNEX_DEPTH_NETWORK as an option; empty if the variable is not set."""
    network = os.path.expanduser(os.environ.get(DEPTH_NETWORK_VARIABLE) or "")
    return {"depth_network": network} if network else {}


def encoding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The subset of `options` that latents are encoded with."""
    return {name: options[name] for name in ENCODED_CHOICES if name in options}


def code_version(base: str, options: Mapping[str, Any]) -> str:
    """Code version of an asset with these options; other options change it, which makes the asset stale."""
    return f"{base} {json.dumps(options, sort_keys=True)}" if options else base


def adapter_folder(workspace: Workspace, *, model: str, options: Mapping[str, Any]) -> Path:
    """The output folder for these options: one folder per base, set of latents and set of settings.

    Default values count as settings, so that another default in a later version gives another folder.

    Raises:
        FileNotFoundError: there are no latent statistics yet.
        ValueError: an option is unknown or has an invalid value.
    """
    from fourdnex.latents.shards import shard_fingerprint, shard_names
    from fourdnex.model.presets import base_digest, get_preset

    _check_names(options)
    training = LoraTraining(latents=workspace.latents, output=workspace.adapters, model=model, **options)
    settings = recorded(asdict(training))
    shards = {shard: shard_fingerprint(workspace.latents, shard) for shard in shard_names(workspace.latents)}
    content = {
        "base": base_digest(get_preset(model).location),
        "settings": {name: value for name, value in sorted(settings.items()) if name not in _SET_BY_GRAPH},
        "latents": shards,
        "statistics": sha256_file(workspace.latent_statistics),
    }
    return workspace.adapter(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16])


def train_arguments(latents: Path, output: Path, *, model: str, options: Mapping[str, Any]) -> list[str]:
    """Arguments of the Python process that trains; true and false become --name and --no-name.

    Raises:
        ValueError: an option is unknown, or is set by the graph itself.
    """
    _check_names(options)
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


def _check_xyz_init(options: Mapping[str, Any], source: str) -> None:
    """Raise if adapters need first-frame point maps in generation and there is no depth network."""
    if options.get("xyz_init") == "pointmap" and not (os.environ.get(DEPTH_NETWORK_VARIABLE) or _base_depth_network()):
        raise ValueError(
            f"{source}: xyz_init: expected 'plane', got 'pointmap', which needs a depth network that estimates "
            f"first-frame point maps: set {DEPTH_NETWORK_VARIABLE}"
        )


def _base_depth_network() -> str | None:
    """The depth network that comes with the base; None also if there is no such base, which `base_model` reports."""
    from fourdnex.model.presets import get_preset

    try:
        return get_preset(os.path.expanduser(os.environ.get(MODEL_VARIABLE) or "tiny")).depth_network
    except (ValueError, FileNotFoundError):
        return None


def _check_names(options: Mapping[str, Any]) -> None:
    """Raise if an option is unknown or set by the graph."""
    names = {field.name for field in fields(LoraTraining)} - set(_SET_BY_GRAPH)
    if unknown := set(options) - names:
        raise ValueError(f"options: expected some of {sorted(names)}, got {sorted(unknown)}")
