"""Lineage of a scene: every item in its provenance, and the location of the item on this machine."""

import os
import re
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fourdnex import identity, tracking
from fourdnex.extras import MissingExtraError
from fourdnex.generation.collection_records import read_listed
from fourdnex.io.files import read_json, sha256_file
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from fourdnex.workspace import Workspace

_SHORT = 16  # displayed digits of a digest


@dataclass(frozen=True, kw_only=True)
class Link:
    """One item that a scene was made from or with."""

    kind: str
    name: str | None
    """Name or digest in the provenance; None if the provenance has none."""
    found: bool
    location: str
    """Where the item is; if it was not found, where it was searched."""


def trace(scene: str | os.PathLike[str], *, root: Path | None = None, workspace: Workspace | None = None) -> list[Link]:
    """Find the image, model, data, code and runs in the provenance of a scene.

    Args:
        scene: scene folder.
        root: repository; default: `identity.repository_root()`.
        workspace: default: the current one.

    Raises:
        FileNotFoundError: if `scene` is not a scene folder.
        ValueError: if its `scene.json` is damaged or has no provenance.
    """
    folder = Path(scene)
    root, workspace = root or identity.repository_root(), workspace or Workspace.default()
    stored = read_json(folder / "scene.json")
    provenance = stored.get("provenance") if isinstance(stored, dict) else None
    if not isinstance(provenance, dict):
        raise ValueError(f"{folder / 'scene.json'}: provenance: expected an object, got {provenance!r}")
    provenance = renamed_keys(provenance, SCENE_KEYS, source=folder / "scene.json")
    trained = provenance.get("adapter_identity") or {}
    digest = provenance.get("adapter_digest")
    version = provenance.get("model_version")
    registered = _registered(digest, version, workspace) if digest else ""
    return [
        _image(folder, provenance, workspace),
        _base(provenance),
        _adapter(digest, registered, workspace),
        _version(digest, registered),
        _mlflow_run(provenance.get("mlflow_run"), workspace),
        _data(provenance.get("data_md5"), root),
        _commit("code", provenance.get("git_commit"), root),
        _dagster_run("run", provenance.get("dagster_run"), workspace),
        _commit("adapter's code", trained.get("git_commit"), root),
        _dagster_run("adapter's run", trained.get("dagster_run"), workspace),
    ]


def _image(folder: Path, provenance: Mapping[str, Any], workspace: Workspace) -> Link:
    """The input image, in the inbox or in the collection's source folder."""
    name, digest = provenance.get("image"), provenance.get("image_sha256")
    if not name or not digest:
        return _unnamed("image")
    collection = folder.resolve().parent / "collection.json"
    if not collection.is_file():
        where = f"sha256 {digest[:_SHORT]}; {collection}, which names its folder, is missing"
        return Link(kind="image", name=name, found=False, location=where)
    sources = {entry["scene"]: entry["source"] for entry in read_listed(collection.parent)}
    source = Path(sources.get(folder.resolve().name) or read_json(collection)["source"])
    candidates = [workspace.inbox / source.name / name, source / name]  # the workspace may have been moved or copied
    path = next((file for file in candidates if file.is_file() and sha256_file(file) == digest), candidates[-1])
    found = path.is_file() and sha256_file(path) == digest
    return Link(kind="image", name=name, found=found, location=_location(path, found, f"sha256 {digest[:_SHORT]}"))


def _base(provenance: Mapping[str, Any]) -> Link:
    """The base model, as a preset or in its recorded folder."""
    from fourdnex.model.presets import base_digest, get_preset

    model, digest = provenance.get("model") or provenance.get("base_model"), provenance.get("base_digest")
    if not model or not digest:
        return _unnamed("base")
    recorded = provenance.get("base_location")
    candidates = [recorded] if recorded and Path(recorded).is_dir() else []
    try:
        candidates.insert(0, get_preset(model).location)  # prefer this installation's
    except (ValueError, FileNotFoundError):
        if not candidates:
            return Link(kind="base", name=model, found=False, location=f"no preset or folder; digest {digest[:_SHORT]}")
    location = next((folder for folder in candidates if base_digest(folder) == digest), candidates[-1])
    found = base_digest(location) == digest
    return Link(kind="base", name=model, found=found, location=_location(location, found, f"digest {digest[:_SHORT]}"))


def _registered(digest: str, version: str | None, workspace: Workspace) -> tracking.RegisteredAdapter | str:
    """The registered version of an adapter, or the reason why there is none."""
    try:
        found = tracking.registered(digest, version=version, workspace=workspace)
    except (ValueError, OSError, MissingExtraError) as error:
        return str(error)
    return found or f"adapter {digest} is not registered in {tracking.without_password(tracking.store(workspace))}"


def _adapter(digest: str | None, registered: tracking.RegisteredAdapter | str, workspace: Workspace) -> Link:
    """The adapter, in the workspace or in the registry."""
    from fourdnex.model.adapter import adapter_digest

    if not digest:
        return _unnamed("adapter")
    folders = sorted(path.parent for path in workspace.adapters.glob("*/adapter.json"))
    if not isinstance(registered, str):
        folders.append(registered.adapter_dir)
    unreadable = []
    for folder in folders:
        try:
            found = adapter_digest(folder) == digest
        except (ValueError, OSError):
            unreadable.append(folder.name)
            continue
        if found:
            return Link(kind="adapter", name=digest, found=True, location=str(folder))
    skipped = f" (cannot be read: {', '.join(unreadable)})" if unreadable else ""
    return Link(
        kind="adapter", name=digest, found=False, location=f"not in {workspace.adapters}{skipped}, and not registered"
    )


def _version(digest: str | None, registered: tracking.RegisteredAdapter | str) -> Link:
    """The registered model version."""
    if not digest:
        return _unnamed("model")
    if isinstance(registered, str):
        return Link(kind="model", name=tracking.MODEL, found=False, location=registered)
    name = f"{tracking.MODEL} version {registered.version}"
    return Link(kind="model", name=name, found=True, location=str(registered.adapter_dir))


def _mlflow_run(run_id: str | None, workspace: Workspace) -> Link:
    """The MLflow run of the training."""
    if not run_id:
        return _unnamed("mlflow run")
    store = tracking.without_password(tracking.store(workspace))
    try:
        run = tracking.find_run(run_id, workspace=workspace)
    except (tracking.TrackingError, MissingExtraError) as error:
        return Link(kind="mlflow run", name=run_id, found=False, location=str(error))
    if run is None:
        return Link(kind="mlflow run", name=run_id, found=False, location=f"not in {store}")
    location = f"{run.status}, {run.name}, {_when(run.started)}, in {store}"
    return Link(kind="mlflow run", name=run_id, found=True, location=location)


def _data(md5: str | None, root: Path) -> Link:
    """The data version, current or in the history of `data.dvc`."""
    if not md5:
        return _unnamed("data")
    if (root / "data.dvc").is_file() and identity.data_md5(root) == md5:
        return Link(kind="data", name=md5, found=True, location=f"current version in {root / 'data.dvc'}")
    commits = _git(root, "log", "--reverse", "--format=%h", "-S", md5, "--", "data.dvc")
    if not commits:
        return Link(kind="data", name=md5, found=False, location=f"not in the history of {root / 'data.dvc'}")
    added = commits.splitlines()[0]  # a later commit removed it
    return Link(kind="data", name=md5, found=True, location=f"git checkout {added} -- data.dvc && dvc pull")


def _commit(kind: str, commit: str | None, root: Path) -> Link:
    """A commit of the repository."""
    if not commit:
        return _unnamed(kind)
    if not re.fullmatch(r"[0-9a-f]{7,64}", str(commit)):  # scenes are untrusted: must not be parsed as an option of git
        return Link(kind=kind, name=commit, found=False, location="expected the 7 to 64 hexadecimal digits of a commit")
    summary = _git(root, "log", "-1", "--format=%cs, %s", "--end-of-options", commit, "--")
    return Link(kind=kind, name=commit, found=bool(summary), location=summary or f"not in {root}")


def _dagster_run(kind: str, run_id: str | None, workspace: Workspace) -> Link:
    """A Dagster run, read from the run database, so that this package does not depend on Dagster."""
    if not run_id:
        return _unnamed(kind)
    runs = workspace.dagster_home / "history" / "runs.db"
    row = None
    if runs.is_file():
        with closing(sqlite3.connect(f"{runs.as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT status, start_time FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return Link(kind=kind, name=run_id, found=False, location=f"not in {workspace.dagster_home}")
    when = _when(datetime.fromtimestamp(row[1], UTC)) if row[1] else "not started"
    return Link(kind=kind, name=run_id, found=True, location=f"{row[0]}, {when}; /runs/{run_id} in Dagster")


def _unnamed(kind: str) -> Link:
    """Link of an item that the provenance does not name."""
    return Link(kind=kind, name=None, found=False, location="not in the scene's provenance")


def _location(path: str | os.PathLike[str], found: bool, expected: str) -> str:
    """The path; if the item was not found, with what was expected there."""
    return str(path) if found else f"missing or changed, expected {expected}: {path}"


def _when(time: datetime) -> str:
    """A time as text."""
    return time.strftime("%Y-%m-%d %H:%M UTC")


def _git(root: Path, *arguments: str) -> str | None:
    """Output of git; None if it is empty or git fails."""
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
