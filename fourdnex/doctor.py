"""Is everything here that the commands need? One finding for each thing, with what to do where it is bad."""

import json
import os
import platform
import shutil
import struct
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fourdnex import __version__
from fourdnex.cores import available_cores
from fourdnex.identity import data_md5, folder_md5, git_commit, is_checkout, repository_root
from fourdnex.io.files import read_json
from fourdnex.workspace import Workspace

_PACKAGES = ("numpy", "torch", "diffusers", "transformers", "accelerate", "peft")
_OPTIONAL = ("pandas", "pycolmap", "rerun-sdk", "usd-core", "dvc", "mlflow", "dagster")
"""Needed in a checkout, where the whole graph runs; in an installed wheel, extras install them."""
_MIN_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    found: str


def examine(*, root: Path | None = None, workspace: Workspace | None = None, model: str = "tiny") -> list[Finding]:
    """Look at code, packages, devices, base model, data and disk.

    Args:
        root: the repository; default: the one this package lies in.
        workspace: default: the present one.
    """
    root, workspace = root or repository_root(), workspace or Workspace.default()
    return [
        Finding("code", True, f"fourdnex {__version__}, commit {(is_checkout() and git_commit(root)) or 'unknown'}"),
        Finding("python", True, f"{platform.python_version()} on {platform.platform()}"),
        _packages(),
        _devices(),
        _base(model),
        _data(root),
        _disk(workspace.root),
    ]


def metadata_version(package: str) -> str:
    """The installed version; "not installed" where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _packages() -> Finding:
    versions = {package: metadata_version(package) for package in (*_PACKAGES, *_OPTIONAL)}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    needed = [*_PACKAGES, *(_OPTIONAL if is_checkout() else ())]
    return Finding("packages", all(versions[package] != "not installed" for package in needed), listed)


def _devices() -> Finding:
    import torch

    cores = available_cores()
    found = [f"{cores} CPU cores"]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found.append(f"{device.name} with {device.total_memory / 2**30:.0f} GiB")
    return Finding("devices", True, ", ".join(found if len(found) > 1 else [*found, "no GPU"]))


def _base(model: str) -> Finding:
    """Every part that the base's index names is there, and every weight file is as long as its header says."""
    from fourdnex.model.presets import base_digest, get_preset

    try:
        preset = get_preset(model)
        if not preset.is_local:
            return Finding("base model", True, f"{preset.location}, from the hub")
        folder = Path(preset.location)
        index = read_json(folder / "model_index.json")
        parts = [name for name, kind in index.items() if isinstance(kind, list) and kind[0] is not None]
        missing = [part for part in parts if not (folder / part).is_dir()]
        if missing:
            return Finding(
                "base model", False, f"{folder}: missing {', '.join(missing)}; check the repository out again"
            )
        weights = sorted(folder.rglob("*.safetensors"))
        for file in weights:
            _check_length(file)
        size = sum(file.stat().st_size for file in weights) / 2**20
    except (ValueError, OSError) as error:
        return Finding("base model", False, str(error))
    return Finding("base model", True, f"{preset.name}, {size:.1f} MiB, digest {base_digest(preset.location)[:16]}")


def _check_length(file: Path) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(8)
        header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + header_bytes > size:
            raise ValueError(f"{file}: cut or damaged")
        header = json.loads(stream.read(header_bytes))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    if 8 + header_bytes + end != size:
        raise ValueError(f"{file}: expected {8 + header_bytes + end} bytes, got {size}")


def _data(root: Path) -> Finding:
    from fourdnex.datasets.manifest import read_manifest

    folder = root / "data"
    if not is_checkout() and not (root / "data.dvc").is_file():
        return Finding("data", True, "none; it is part of a checkout")
    try:
        expected = data_md5(root)
        manifest = read_manifest(folder)
    except (ValueError, OSError) as error:
        return Finding("data", False, str(error))
    if (found := folder_md5(folder)) != expected:
        return Finding("data", False, f"{folder}: {found} is not the {expected} of data.dvc: run `dvc pull --force`")
    return Finding("data", True, f"{len(manifest)} clips in {manifest['shard'].nunique()} shards, {expected}")


def _disk(folder: Path) -> Finding:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    ok = free >= _MIN_FREE_GB and os.access(place, os.W_OK)
    advice = "" if ok else f"; expected at least {_MIN_FREE_GB:g} GiB and permission to write"
    return Finding("disk", ok, f"{free:.1f} GiB free at {place}{advice}")
