"""Checks that everything the commands need is installed and intact. Each failed check says what to do."""

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
"""Required in a checkout, where the whole graph runs; optional extras of an installed wheel."""
_MIN_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    check: str
    ok: bool
    detail: str
    """What was found, and what to do if the check failed."""


def examine(*, root: Path | None = None, workspace: Workspace | None = None, model: str = "tiny") -> list[Finding]:
    """Check code, packages, devices, base model, data and disk space.

    Args:
        root: repository; default: `repository_root()`.
        workspace: default: the current one.
        model: preset or folder of the base model to check.
    """
    root, workspace = root or repository_root(), workspace or Workspace.default()
    return [
        Finding("code", True, f"fourdnex {__version__}, commit {(is_checkout() and git_commit(root)) or 'unknown'}"),
        Finding("python", True, f"{platform.python_version()} on {platform.platform()}"),
        _packages(),
        _annotators(),
        _devices(),
        _base(model),
        _data(root),
        _disk(workspace.root),
    ]


def metadata_version(package: str) -> str:
    """Installed version of a package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _packages() -> Finding:
    """Whether the required packages are installed."""
    versions = {package: metadata_version(package) for package in (*_PACKAGES, *_OPTIONAL)}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    required = [*_PACKAGES, *(_OPTIONAL if is_checkout() else ())]
    return Finding("packages", all(versions[package] != "not installed" for package in required), listed)


def _annotators() -> Finding:
    """Whether every annotator of an installed package can be used, and which built-in ones lack a package."""
    from fourdnex.annotation.registry import list_annotators

    listed = list_annotators()
    details = [info.problem or f"{info.name} {info.version}" for info in listed]
    for position, info in enumerate(listed):
        if info.missing:
            details[position] += f" (not available: pip install {' '.join(map(repr, info.missing))})"
    return Finding("annotators", not any(info.problem for info in listed), ", ".join(details))


def _devices() -> Finding:
    """CPU cores and GPUs."""
    import torch

    cores = available_cores()
    found = [f"{cores} CPU cores"]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found.append(f"{device.name} with {device.total_memory / 2**30:.0f} GiB")
    return Finding("devices", True, ", ".join(found if len(found) > 1 else [*found, "no GPU"]))


def _base(model: str) -> Finding:
    """Whether all components of the base model exist, and every weight file has the length given in its header."""
    from fourdnex.model.presets import base_digest, get_preset

    try:
        preset = get_preset(model)
        if not preset.is_local:
            return Finding("base model", True, f"{preset.location}, on the hub")
        folder = Path(preset.location)
        index = read_json(folder / "model_index.json")
        components = [name for name, kind in index.items() if isinstance(kind, list) and kind[0] is not None]
        missing = [name for name in components if not (folder / name).is_dir()]
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
    """Raise ValueError if a safetensors file does not have the length given in its header."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(8)
        header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + header_bytes > size:
            raise ValueError(f"{file}: truncated or damaged")
        header = json.loads(stream.read(header_bytes))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    if 8 + header_bytes + end != size:
        raise ValueError(f"{file}: expected {8 + header_bytes + end} bytes, got {size}")


def _data(root: Path) -> Finding:
    """Whether the data set is complete and has the version named in `data.dvc`."""
    from fourdnex.datasets.manifest import read_manifest

    folder = root / "data"
    if not is_checkout() and not (root / "data.dvc").is_file():
        return Finding("data", True, "none: the data set is only part of a checkout")
    try:
        expected = data_md5(root)
        manifest = read_manifest(folder)
    except (ValueError, OSError) as error:
        return Finding("data", False, str(error))
    if (found := folder_md5(folder)) != expected:
        return Finding(
            "data", False, f"{folder}: expected {expected} as in data.dvc, got {found}: run `dvc pull --force`"
        )
    return Finding("data", True, f"{len(manifest)} clips in {manifest['shard'].nunique()} shards, {expected}")


def _disk(folder: Path) -> Finding:
    """Whether there is enough disk space and write permission."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    ok = free >= _MIN_FREE_GB and os.access(place, os.W_OK)
    advice = "" if ok else f"; expected at least {_MIN_FREE_GB:g} GiB and permission to write"
    return Finding("disk", ok, f"{free:.1f} GiB free at {place}{advice}")
