"""Where a scene comes from: every name in its provenance, and where the thing of that name is on this machine."""

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
from fourdnex.io.files import read_json, sha256_file
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from fourdnex.workspace import Workspace

_SHORT = 16  # digits of a digest that people can compare


@dataclass(frozen=True, kw_only=True)
class Link:
    """One thing that a scene was made of or by."""

    what: str
    name: str | None
    """As the scene names it; None where it names none."""
    found: bool
    place: str
    """Where it is; when it was not found, where it was looked for."""


def trace(scene: str | os.PathLike[str], *, root: Path | None = None, workspace: Workspace | None = None) -> list[Link]:
    """Follow the provenance of the scene in the folder `scene`, from its image to the code, data and runs.

    Args:
        root: the repository; default: the one this package lies in.
        workspace: default: the present one.

    Raises:
        FileNotFoundError: `scene` is no folder of a scene.
        ValueError: its `scene.json` is damaged or holds no provenance.
    """
    folder = Path(scene)
    root, workspace = root or identity.repository_root(), workspace or Workspace.default()
    stored = read_json(folder / "scene.json")
    known = stored.get("provenance") if isinstance(stored, dict) else None
    if not isinstance(known, dict):
        raise ValueError(f"{folder / 'scene.json'}: provenance: expected an object, got {known!r}")
    known = renamed_keys(known, SCENE_KEYS, source=folder / "scene.json")
    trained = known.get("adapter_identity") or {}
    digest = known.get("adapter_digest")
    version = known.get("model_version")
    registered = _registered(digest, version, workspace) if digest else ""
    return [
        _image(folder, known, workspace),
        _base(known),
        _adapter(digest, registered, workspace),
        _version(digest, registered),
        _mlflow_run(known.get("mlflow_run"), workspace),
        _data(known.get("data_md5"), root),
        _commit("code", known.get("git_commit"), root),
        _dagster_run("run", known.get("dagster_run"), workspace),
        _commit("adapter's code", trained.get("git_commit"), root),
        _dagster_run("adapter's run", trained.get("dagster_run"), workspace),
    ]


def _image(folder: Path, known: Mapping[str, Any], workspace: Workspace) -> Link:
    name, digest = known.get("image"), known.get("image_sha256")
    if not name or not digest:
        return _unnamed("image")
    collection = folder.resolve().parent / "collection.json"
    if not collection.is_file():
        where = f"sha256 {digest[:_SHORT]}; no {collection} says where it lies"
        return Link(what="image", name=name, found=False, place=where)
    listed = renamed_keys(read_json(collection), {"pictures": "images"}, source=collection)
    entry = {entry["scene"]: entry for entry in listed["images"]}.get(folder.resolve().name, {})
    source = Path(entry.get("source", listed["source"]))
    places = [workspace.inbox / source.name / name, source / name]  # the workspace may have been moved or copied
    path = next((place for place in places if place.is_file() and sha256_file(place) == digest), places[-1])
    found = path.is_file() and sha256_file(path) == digest
    return Link(what="image", name=name, found=found, place=_here(path, found, f"sha256 {digest[:_SHORT]}"))


def _base(known: Mapping[str, Any]) -> Link:
    from fourdnex.model.presets import base_digest, get_preset

    model, digest = known.get("model") or known.get("base_model"), known.get("base_digest")
    if not model or not digest:
        return _unnamed("base")
    recorded = known.get("base_location")
    places = [recorded] if recorded and Path(recorded).is_dir() else []
    try:
        places.insert(0, get_preset(model).location)  # that of this installation before one elsewhere
    except (ValueError, FileNotFoundError):
        if not places:
            return Link(what="base", name=model, found=False, place=f"no preset or folder; digest {digest[:_SHORT]}")
    location = next((place for place in places if base_digest(place) == digest), places[-1])
    found = base_digest(location) == digest
    return Link(what="base", name=model, found=found, place=_here(location, found, f"digest {digest[:_SHORT]}"))


def _registered(digest: str, version: str | None, workspace: Workspace) -> tracking.RegisteredAdapter | str:
    """The registered version of an adapter, or why there is none."""
    try:
        found = tracking.registered(digest, version=version, workspace=workspace)
    except (ValueError, OSError, MissingExtraError) as error:
        return str(error)
    return found or f"adapter {digest} is not registered in {tracking.without_password(tracking.store(workspace))}"


def _adapter(digest: str | None, registered: tracking.RegisteredAdapter | str, workspace: Workspace) -> Link:
    from fourdnex.model.adapter import adapter_digest

    if not digest:
        return _unnamed("adapter")
    folders = sorted(path.parent for path in workspace.adapters.glob("*/adapter.json"))
    if not isinstance(registered, str):
        folders.append(registered.adapter_dir)
    broken = []
    for folder in folders:
        try:
            found = adapter_digest(folder) == digest
        except (ValueError, OSError):
            broken.append(folder.name)
            continue
        if found:
            return Link(what="adapter", name=digest, found=True, place=str(folder))
    unless = f", unless it is one that cannot be read: {', '.join(broken)}" if broken else ""
    return Link(what="adapter", name=digest, found=False, place=f"not in {workspace.adapters}{unless}, nor registered")


def _version(digest: str | None, registered: tracking.RegisteredAdapter | str) -> Link:
    if not digest:
        return _unnamed("model")
    if isinstance(registered, str):
        return Link(what="model", name=tracking.MODEL, found=False, place=registered)
    name = f"{tracking.MODEL} version {registered.version}"
    return Link(what="model", name=name, found=True, place=str(registered.adapter_dir))


def _mlflow_run(run_id: str | None, workspace: Workspace) -> Link:
    if not run_id:
        return _unnamed("mlflow run")
    store = tracking.without_password(tracking.store(workspace))
    try:
        run = tracking.find_run(run_id, workspace=workspace)
    except (tracking.TrackingError, MissingExtraError) as error:
        return Link(what="mlflow run", name=run_id, found=False, place=str(error))
    if run is None:
        return Link(what="mlflow run", name=run_id, found=False, place=f"not in {store}")
    place = f"{run.status}, {run.name}, {_when(run.started)}, in {store}"
    return Link(what="mlflow run", name=run_id, found=True, place=place)


def _data(md5: str | None, root: Path) -> Link:
    if not md5:
        return _unnamed("data")
    if (root / "data.dvc").is_file() and identity.data_md5(root) == md5:
        return Link(what="data", name=md5, found=True, place=f"{root / 'data.dvc'} names it")
    commits = _git(root, "log", "--reverse", "--format=%h", "-S", md5, "--", "data.dvc")
    if not commits:
        return Link(what="data", name=md5, found=False, place=f"in no version of {root / 'data.dvc'}")
    brought = commits.splitlines()[0]  # the last of them took it away again
    return Link(what="data", name=md5, found=True, place=f"git checkout {brought} -- data.dvc && dvc pull")


def _commit(what: str, commit: str | None, root: Path) -> Link:
    if not commit:
        return _unnamed(what)
    if not re.fullmatch(r"[0-9a-f]{7,64}", str(commit)):  # a scene may come from anywhere: git must take no option
        return Link(what=what, name=commit, found=False, place="expected the 7 to 64 hexadecimal digits of a commit")
    said = _git(root, "log", "-1", "--format=%cs, %s", "--end-of-options", commit, "--")
    return Link(what=what, name=commit, found=bool(said), place=said or f"not in {root}")


def _dagster_run(what: str, run_id: str | None, workspace: Workspace) -> Link:
    """Looked up in the file: this package knows nothing of Dagster but where it keeps its runs."""
    if not run_id:
        return _unnamed(what)
    runs = workspace.dagster_home / "history" / "runs.db"
    row = None
    if runs.is_file():
        with closing(sqlite3.connect(f"{runs.as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT status, start_time FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return Link(what=what, name=run_id, found=False, place=f"not in {workspace.dagster_home}")
    when = _when(datetime.fromtimestamp(row[1], UTC)) if row[1] else "not started"
    return Link(what=what, name=run_id, found=True, place=f"{row[0]}, {when}; /runs/{run_id} in Dagster")


def _unnamed(what: str) -> Link:
    return Link(what=what, name=None, found=False, place="the scene names none")


def _here(place: str | os.PathLike[str], found: bool, wanted: str) -> str:
    return str(place) if found else f"not, or no longer the one with {wanted}: {place}"


def _when(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None when it knows nothing of it."""
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
