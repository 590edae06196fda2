"""The registry of adapters.

An adapter becomes a version of the registered model `fourdnex-adapter`; the aliases `challenger` and `champion` say
which one is proposed and which one serves.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from fourdnex import identity
from fourdnex.io.files import atomic_dir, read_json, sha256_tree
from fourdnex.tracking.client import default_store, has_store, none_if_missing, open_client, store_folder, tracking_uri
from fourdnex.tracking.runs import EXPERIMENT, experiment_id
from fourdnex.workspace import Workspace

MODEL = "fourdnex-adapter"
CHALLENGER, CHAMPION, FORMER_CHAMPION = "challenger", "champion", "former-champion"
_SERVED_WITH = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class RegisteredAdapter:
    """One version of the registered model: where its files lie on this machine, and where it comes from."""

    version: str
    adapter_dir: Path
    run_id: str | None
    model_uri: str
    identity: dict[str, Any]
    report: dict[str, Any] = field(repr=False)
    """The evaluation report it was registered with."""

    @property
    def data_md5(self) -> str | None:
        return self.identity.get("data_md5")

    @property
    def adapter_digest(self) -> str | None:
        return self.identity.get("adapter_digest")


def register_challenger(
    adapter_dir: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str],
    model_code: str | os.PathLike[str],
    config: Mapping[str, Any],
    known: Mapping[str, Any],
    run_id: str | None = None,
    workspace: Workspace | None = None,
) -> RegisteredAdapter:
    """Register an adapter folder with its evaluation `report` (JSON) and let the alias `challenger` point to it.

    `model_code` is the Python file of the served model (models from code: nothing is pickled), `config` what that
    code reads (base model and its digest), `known` the identity. An adapter that is registered already, by the
    identity's `adapter_digest`, keeps its version as long as its report says the same.

    Raises:
        ValueError: the identity has no adapter digest, or the report is of another adapter.
        FileNotFoundError: the adapter folder or the report is missing.
    """
    digest = known.get("adapter_digest")
    if not digest:
        raise ValueError("known: expected the adapter's digest under 'adapter_digest', got none")
    content = sha256_tree(adapter_dir)
    given = read_json(report)
    if (measured := given.get("settings", {}).get("adapter_digest")) != digest:
        raise ValueError(f"{report}: settings.adapter_digest: expected {digest}, got {measured}: evaluate this adapter")
    client = open_client(workspace)
    version = next(reversed(_registered_as(client, digest)), None)
    if version is None or _said(_adapter(client, version, workspace).report) != _said(given):
        version = _log_version(
            client,
            workspace,
            run_id=run_id,
            model_code=str(model_code),
            artifacts={"adapter": str(adapter_dir), "report": str(report)},
            config=dict(config),
        )
        for key, value in {**known, "content_sha256": content}.items():
            if value is not None:
                client.set_model_version_tag(MODEL, version, key, str(value))
    client.set_registered_model_alias(MODEL, CHALLENGER, version)
    return _adapter(client, version, workspace)


def resolve(alias: str = CHAMPION, *, workspace: Workspace | None = None) -> RegisteredAdapter | None:
    """The version that `alias` points to, its files fetched and checked; None when nothing bears the alias.

    Raises:
        ValueError: the adapter's files are not those that were registered.
    """
    version = resolve_version(alias, workspace=workspace)
    return None if version is None else _adapter(open_client(workspace), version, workspace)


def resolve_version(alias: str = CHAMPION, *, workspace: Workspace | None = None) -> str | None:
    """The number of the version that `alias` points to, no file fetched; None when nothing bears the alias."""
    if not has_store(workspace):
        return None
    version = None
    with none_if_missing():
        version = open_client(workspace).get_model_version_by_alias(MODEL, alias).version
    return None if version is None else str(version)


def registered(
    adapter_digest: str, *, version: str | None = None, workspace: Workspace | None = None
) -> RegisteredAdapter | None:
    """A version with this adapter, its files fetched and checked; None when it is not registered.

    Of several, which have different reports, it is `version` if that is one of them, else the latest.

    Raises:
        ValueError: the adapter's files are not those that were registered.
    """
    if not has_store(workspace):
        return None
    client = open_client(workspace)
    versions = _registered_as(client, adapter_digest)
    if not versions:
        return None
    return _adapter(client, version if version in versions else versions[-1], workspace)


def promote(
    version: str, *, tags: Mapping[str, Any] | None = None, workspace: Workspace | None = None
) -> RegisteredAdapter:
    """Let the alias `champion` point to `version`; the present champion keeps the alias `former-champion`."""
    client = open_client(workspace)
    present = client.get_registered_model(MODEL).aliases.get(CHAMPION)
    if present is not None and str(present) != version:
        client.set_registered_model_alias(MODEL, FORMER_CHAMPION, str(present))
    for key, value in {"promoted_at": datetime.now(UTC).isoformat(timespec="seconds"), **(tags or {})}.items():
        client.set_model_version_tag(MODEL, version, key, str(value))
    client.set_registered_model_alias(MODEL, CHAMPION, version)
    return _adapter(client, version, workspace)


def load_served(adapter: RegisteredAdapter, *, workspace: Workspace | None = None) -> Any:
    """The registered model as a server would load it: an object with `predict(data_frame, params=...)`."""
    import mlflow

    with default_store(tracking_uri(workspace)):
        return mlflow.pyfunc.load_model(adapter.model_uri, suppress_warnings=True)


def _registered_as(client: Any, digest: str) -> list[str]:
    """The versions with this adapter, the latest last."""
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", digest):
        raise ValueError(f"adapter_digest: expected letters and digits, got {digest!r}")
    found = client.search_model_versions(f"name = '{MODEL}' and tags.adapter_digest = '{digest}'")
    return sorted((str(version.version) for version in found), key=int)


def _said(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what differs from one evaluation to an equal one."""
    return {key: value for key, value in report.items() if key not in ("seconds", "identity")}


def _log_version(
    client: Any,
    workspace: Workspace | None,
    *,
    run_id: str | None,
    model_code: str,
    artifacts: dict[str, str],
    config: dict[str, Any],
) -> str:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    import mlflow

    signature = ModelSignature(
        # paths, or content as bytes or base64
        inputs=Schema([ColSpec(AnyType(), "image"), ColSpec("string", "prompt", required=False)]),
        outputs=Schema([ColSpec("string", "image"), ColSpec("string", "scene")]),
        params=ParamSchema(
            [
                ParamSpec("output_dir", "string", ""),
                ParamSpec("seed", "long", 0),
                ParamSpec("size", "string", "image"),
                ParamSpec("camera", "string", ""),
                ParamSpec("camera_pace", "string", "slowly"),
            ]
        ),
    )
    experiment = experiment_id(client, EXPERIMENT, workspace)
    before = client.get_run(run_id).info if run_id else None
    with (
        default_store(client.tracking_uri),
        mlflow.start_run(run_id=run_id, experiment_id=None if run_id else experiment),
        warnings.catch_warnings(),
    ):
        # MLflow asks for type hints and an input example to guess a signature: ours is stated.
        warnings.simplefilter("ignore", UserWarning)
        model = mlflow.pyfunc.log_model(
            name="scene-model",
            python_model=model_code,
            artifacts=artifacts,
            model_config=config,
            signature=signature,
            pip_requirements=_requirements(_SERVED_WITH),
            registered_model_name=MODEL,
        )
    if before is not None and before.end_time:  # the run ended when training ended, not when it was registered
        client.set_terminated(before.run_id, before.status, before.end_time)
    return str(model.registered_model_version)


def _requirements(packages: Sequence[str]) -> list[str]:
    from importlib.metadata import version

    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def _adapter(client: Any, version: str, workspace: Workspace | None) -> RegisteredAdapter:
    entry = client.get_model_version(MODEL, version)
    files = _artifacts(_fetched(client, entry, workspace))
    adapter_dir = files["adapter"]
    expected = entry.tags.get("content_sha256")
    if expected is not None and (got := sha256_tree(adapter_dir)) != expected:
        raise ValueError(f"{adapter_dir}: expected the registered files of version {version} ({expected}), got {got}")
    return RegisteredAdapter(
        version=version,
        adapter_dir=adapter_dir,
        run_id=entry.run_id or None,
        model_uri=f"models:/{MODEL}/{version}",
        identity={key: entry.tags.get(key) for key in identity.KEYS},
        report=read_json(files["report"]),
    )


def _artifacts(folder: Path) -> dict[str, Path]:
    """Artifacts of a saved model by their names: MLflow keeps them under the names they had where they came from."""
    from mlflow.models import Model

    entries = Model.load(str(folder)).flavors["python_function"]["artifacts"]
    return {name: folder / entry["path"] for name, entry in entries.items()}


def _fetched(client: Any, entry: Any, workspace: Workspace | None) -> Path:
    """The version's files on this machine: where the store has them, or a copy beside the store's other files."""
    from mlflow.artifacts import download_artifacts
    from mlflow.utils.file_utils import local_file_uri_to_path

    location = client.get_model_version_download_uri(MODEL, entry.version)
    if entry.model_id:
        location = client.get_logged_model(entry.model_id).artifact_location
    if urlparse(location).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(location))
        if not (folder / "MLmodel").is_file():
            name = f"{MODEL} version {entry.version}"
            raise FileNotFoundError(f"{folder}: the files of {name} are gone: register the adapter again")
        return folder
    target = store_folder(workspace) / "downloads" / f"{MODEL}-{entry.version}"
    if not target.is_dir():
        with default_store(client.tracking_uri), atomic_dir(target) as temporary:
            download_artifacts(f"models:/{MODEL}/{entry.version}", dst_path=str(temporary))
    return target
