"""The training command of the asset `adapter`: its options, its folder, its arguments."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from fourdnex.io.files import sha256_file
from fourdnex.model.recipe import ENCODED_CHOICES, recorded
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.workspace import Workspace
from orchestration.project import DEPTH_NETWORK_VARIABLE

MODEL_VARIABLE = "FOURDNEX_MODEL"
OPTIONS_VARIABLE = "FOURDNEX_TRAINING_OPTIONS"
"""Environment variable with options of every training run, as JSON."""
_OF_THE_GRAPH = ("latents", "output", "model")


class TrainingOptions(dg.Config):
    """What a training run does otherwise than by default."""

    options: dict[str, Any] = Field(
        default={},
        description="Fields of fourdnex.training.lora_settings.LoraTraining, for instance {steps: 200, seed: 1}.",
    )

    @field_validator("options")
    @classmethod
    def _not_of_the_latents(cls, options: dict[str, Any]) -> dict[str, Any]:
        _check_start(options, "options")
        if encoded := encoding_options(options):
            raise ValueError(
                f"options: expected none that latents are encoded by, got {encoded}: set it in {OPTIONS_VARIABLE}"
            )
        return options


def options_of_every_run() -> dict[str, Any]:
    """What FOURDNEX_TRAINING_OPTIONS holds. Where a depth network comes with the base, adapters begin with what it
    finds in the image, unless it says otherwise.

    Raises:
        ValueError: it is no JSON object, or asks for adapters that the graph cannot generate with.
    """
    given = os.environ.get(OPTIONS_VARIABLE) or "{}"
    try:
        options = json.loads(given)
    except json.JSONDecodeError as error:
        raise ValueError(f"{OPTIONS_VARIABLE}: expected a JSON object, got {given!r} ({error})") from error
    if not isinstance(options, dict):
        raise ValueError(f"{OPTIONS_VARIABLE}: expected a JSON object, got {given!r}")
    if _own_depth_network() is not None:
        options = {"xyz_init": "pointmap"} | options
    _check_start(options, OPTIONS_VARIABLE)
    return options


def depth_network_option() -> dict[str, str]:
    """What FOURDNEX_DEPTH_NETWORK names, as an option; empty where it is not set."""
    found = os.path.expanduser(os.environ.get(DEPTH_NETWORK_VARIABLE) or "")
    return {"depth_network": found} if found else {}


def encoding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that latents are encoded by."""
    return {name: options[name] for name in ENCODED_CHOICES if name in options}


def code_version(base: str, options: Mapping[str, Any]) -> str:
    """Of an asset that does as `options` say: another one for other options, so that they make it stale."""
    return f"{base} {json.dumps(options, sort_keys=True)}" if options else base


def adapter_folder(workspace: Workspace, *, model: str, options: Mapping[str, Any]) -> Path:
    """Where the adapter of these options goes: one folder for one base, one set of latents and one of settings.

    Defaults count among the settings: with others, in a later version, it is another adapter.

    Raises:
        FileNotFoundError: there are no latent statistics yet.
        ValueError: an option is unknown or has a wrong value.
    """
    from fourdnex.latents.shards import shard_fingerprint, shard_names
    from fourdnex.model.presets import base_digest, get_preset

    _check_names(options)
    training = LoraTraining(latents=workspace.latents, output=workspace.adapters, model=model, **options)
    settings = recorded(asdict(training))
    shards = {shard: shard_fingerprint(workspace.latents, shard) for shard in shard_names(workspace.latents)}
    content = {
        "base": base_digest(get_preset(model).location),
        "settings": {name: value for name, value in sorted(settings.items()) if name not in _OF_THE_GRAPH},
        "latents": shards,
        "statistics": sha256_file(workspace.latent_statistics),
    }
    return workspace.adapter(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16])


def command_line(latents: Path, output: Path, *, model: str, options: Mapping[str, Any]) -> list[str]:
    """Arguments of the Python that trains; true and false become --name and --no-name.

    Raises:
        ValueError: an option is unknown, or names what the graph itself decides.
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


def _check_start(options: Mapping[str, Any], where: str) -> None:
    if options.get("xyz_init") == "pointmap" and not (os.environ.get(DEPTH_NETWORK_VARIABLE) or _own_depth_network()):
        raise ValueError(
            f"{where}: xyz_init: expected 'plane', got 'pointmap': nothing finds first point maps for such an adapter; "
            f"set {DEPTH_NETWORK_VARIABLE} to a depth network"
        )


def _own_depth_network() -> str | None:
    """The one that comes with the base; None also where there is no such base, which is `base_model`'s to say."""
    from fourdnex.model.presets import get_preset

    try:
        return get_preset(os.path.expanduser(os.environ.get(MODEL_VARIABLE) or "tiny")).depth_network
    except (ValueError, FileNotFoundError):
        return None


def _check_names(options: Mapping[str, Any]) -> None:
    names = {field.name for field in fields(LoraTraining)} - set(_OF_THE_GRAPH)
    if unknown := set(options) - names:
        raise ValueError(f"options: expected some of {sorted(names)}, got {sorted(unknown)}")
