"""Registry of adapters.

Adapters are versions of the registered model `fourdnex-adapter`. The alias `challenger` marks the proposed version,
`champion` the one in use.
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
from fourdnex.io.renamed import renamed_report
from fourdnex.tracking.client import default_store, has_store, none_if_missing, open_client, store_folder, tracking_uri
from fourdnex.tracking.runs import EXPERIMENT, experiment_id
from fourdnex.workspace import Workspace

MODEL = "fourdnex-adapter"
CHALLENGER, CHAMPION, FORMER_CHAMPION = "challenger", "champion", "former-champion"
_SERVING_PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class RegisteredAdapter:
    """A version of the registered model: its files on this machine, and its identity."""

    version: str
    adapter_dir: Path
    run_id: str | None
    model_uri: str
    identity: dict[str, Any]
    report: dict[str, Any] = field(repr=False)
    """Evaluation report that the version was registered with."""

    @property
    def data_md5(self) -> str | None:
        """Md5 of the training data."""
        return self.identity.get("data_md5")

    @property
    def adapter_digest(self) -> str | None:
        """Digest of the adapter."""
        return self.identity.get("adapter_digest")


def register_challenger(
    adapter_dir: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str],
    model_code: str | os.PathLike[str],
    config: Mapping[str, Any],
    adapter_identity: Mapping[str, Any],
    run_id: str | None = None,
    workspace: Workspace | None = None,
) -> RegisteredAdapter:
    """Register an adapter folder with its evaluation report, and set the alias `challenger` to it.

    An adapter that is already registered (by its `adapter_digest`) keeps its version if the report is unchanged.

    Args:
        adapter_dir: adapter folder.
        report: evaluation report (JSON).
        model_code: Python file of the served model (models from code: nothing is pickled).
        config: configuration that the model code reads: base model and its digest.
        adapter_identity: identity of the adapter, with `adapter_digest` (see `fourdnex.identity`).
        run_id: MLflow run of the training; None creates one.
        workspace: workspace of the store; default: the current one.

    Raises:
        ValueError: if the identity has no adapter digest, or the report belongs to another adapter.
        FileNotFoundError: if the adapter folder or the report is missing.
    """
    digest = adapter_identity.get("adapter_digest")
    if not digest:
        raise ValueError("adapter_identity: expected the adapter's digest under 'adapter_digest', got none")
    content = sha256_tree(adapter_dir)
    evaluated = renamed_report(read_json(report), source=Path(report))
    if (found := evaluated.get("settings", {}).get("adapter_digest")) != digest:
        raise ValueError(f"{report}: settings.adapter_digest: expected {digest}, got {found}: evaluate this adapter")
    client = open_client(workspace)
    version = next(reversed(_versions_of(client, digest)), None)
    if version is None or _results(_adapter(client, version, workspace).report) != _results(evaluated):
        version = _log_version(
            client,
            workspace,
            run_id=run_id,
            model_code=str(model_code),
            artifacts={"adapter": str(adapter_dir), "report": str(report)},
            config=dict(config),
        )
        for key, value in {**adapter_identity, "content_sha256": content}.items():
            if value is not None:
                client.set_model_version_tag(MODEL, version, key, str(value))
    client.set_registered_model_alias(MODEL, CHALLENGER, version)
    return _adapter(client, version, workspace)


def resolve(alias: str = CHAMPION, *, workspace: Workspace | None = None) -> RegisteredAdapter | None:
    """The version with the alias `alias`, with its files downloaded and verified; None if no version has it.

    Raises:
        ValueError: if the adapter's files differ from the registered ones.
    """
    version = resolve_version(alias, workspace=workspace)
    return None if version is None else _adapter(open_client(workspace), version, workspace)


def resolve_version(alias: str = CHAMPION, *, workspace: Workspace | None = None) -> str | None:
    """Number of the version with the alias `alias`, without its files; None if no version has it."""
    if not has_store(workspace):
        return None
    version = None
    with none_if_missing():
        version = open_client(workspace).get_model_version_by_alias(MODEL, alias).version
    return None if version is None else str(version)


def registered(
    adapter_digest: str, *, version: str | None = None, workspace: Workspace | None = None
) -> RegisteredAdapter | None:
    """The version of an adapter, with its files downloaded and verified; None if it is not registered.

    An adapter has several versions if it was registered with several reports: returns `version` if it is one of them,
    else the latest.

    Raises:
        ValueError: if the adapter's files differ from the registered ones.
    """
    if not has_store(workspace):
        return None
    client = open_client(workspace)
    versions = _versions_of(client, adapter_digest)
    if not versions:
        return None
    return _adapter(client, version if version in versions else versions[-1], workspace)


def adapter_version(version: str, *, workspace: Workspace | None = None) -> RegisteredAdapter:
    """A version by its number, with its files downloaded and verified.

    Raises:
        ValueError: there is no such version, or the adapter's files differ from the registered ones.
    """
    with none_if_missing():
        return _adapter(open_client(workspace), version, workspace)
    raise ValueError(f"version: expected one of {MODEL}, got {version!r}")


def former_champions(*, workspace: Workspace | None = None) -> list[RegisteredAdapter]:
    """All versions that are or have been champion, in ascending order, with their files."""
    client = open_client(workspace)
    found = client.search_model_versions(f"name = '{MODEL}'")
    promoted = sorted((str(entry.version) for entry in found if "promoted_at" in entry.tags), key=int)
    return [_adapter(client, version, workspace) for version in promoted]


def promote(
    version: str, *, tags: Mapping[str, Any] | None = None, workspace: Workspace | None = None
) -> RegisteredAdapter:
    """Set the alias `champion` to `version`, and `former-champion` to the previous champion.

    The version records when it was promoted in the tag `promoted_at`, and `tags`, such as by whom and why.
    """
    client = open_client(workspace)
    previous = client.get_registered_model(MODEL).aliases.get(CHAMPION)
    if previous is not None and str(previous) != version:
        client.set_registered_model_alias(MODEL, FORMER_CHAMPION, str(previous))
    for key, value in {"promoted_at": datetime.now(UTC).isoformat(timespec="seconds"), **(tags or {})}.items():
        client.set_model_version_tag(MODEL, version, key, str(value))
    client.set_registered_model_alias(MODEL, CHAMPION, version)
    return _adapter(client, version, workspace)


def load_served(adapter: RegisteredAdapter, *, workspace: Workspace | None = None) -> Any:
    """Load the registered model as a model server does: an object with `predict(data_frame, params=...)`."""
    import mlflow

    with default_store(tracking_uri(workspace)):
        return mlflow.pyfunc.load_model(adapter.model_uri, suppress_warnings=True)


def _versions_of(client: Any, digest: str) -> list[str]:
    """Versions of an adapter, in ascending order."""
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", digest):
        raise ValueError(f"adapter_digest: expected letters and digits, got {digest!r}")
    found = client.search_model_versions(f"name = '{MODEL}' and tags.adapter_digest = '{digest}'")
    return sorted((str(version.version) for version in found), key=int)


def _results(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without the fields that differ between equal evaluations."""
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
    """Log the served model to MLflow and register it; returns the new version."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    import mlflow

    signature = ModelSignature(
        # image: a path, or the content as bytes or base64
        inputs=Schema([ColSpec(AnyType(), "image"), ColSpec("string", "prompt", required=False)]),
        outputs=Schema([ColSpec("string", "image"), ColSpec("string", "scene")]),
        params=ParamSchema(
            [
                ParamSpec("output_dir", "string", ""),
                ParamSpec("seed", "long", 0),
                ParamSpec("size", "string", "image"),
                ParamSpec("resolution", "string", "auto"),
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
        # MLflow warns that type hints or an input example are missing; the signature is explicit.
        warnings.simplefilter("ignore", UserWarning)
        model = mlflow.pyfunc.log_model(
            name="scene-model",
            python_model=model_code,
            artifacts=artifacts,
            model_config=config,
            signature=signature,
            pip_requirements=_requirements(_SERVING_PACKAGES),
            registered_model_name=MODEL,
        )
    if before is not None and before.end_time:  # keep the end time of training
        client.set_terminated(before.run_id, before.status, before.end_time)
    return str(model.registered_model_version)


def _requirements(packages: Sequence[str]) -> list[str]:
    """Pip requirements with the installed versions."""
    from importlib.metadata import version

    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


def _adapter(client: Any, version: str, workspace: Workspace | None) -> RegisteredAdapter:
    """A version with its files downloaded and verified; ValueError if they differ from the registered ones."""
    entry = client.get_model_version(MODEL, version)
    files = _artifacts(_downloaded(client, entry, workspace))
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
        report=renamed_report(read_json(files["report"]), source=files["report"]),
    )


def _artifacts(folder: Path) -> dict[str, Path]:
    """Paths of a saved model's artifacts by artifact name; MLflow keeps the original file names."""
    from mlflow.models import Model

    entries = Model.load(str(folder)).flavors["python_function"]["artifacts"]
    return {name: folder / entry["path"] for name, entry in entries.items()}


def _downloaded(client: Any, entry: Any, workspace: Workspace | None) -> Path:
    """Folder of a version's files: in the local store, or downloaded next to it."""
    from mlflow.artifacts import download_artifacts
    from mlflow.utils.file_utils import local_file_uri_to_path

    location = client.get_model_version_download_uri(MODEL, entry.version)
    if entry.model_id:
        location = client.get_logged_model(entry.model_id).artifact_location
    if urlparse(location).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(location))
        if not (folder / "MLmodel").is_file():
            name = f"{MODEL} version {entry.version}"
            raise FileNotFoundError(f"{folder}: the files of {name} are missing: register the adapter again")
        return folder
    target = store_folder(workspace) / "downloads" / f"{MODEL}-{entry.version}"
    if not target.is_dir():
        with default_store(client.tracking_uri), atomic_dir(target) as temporary:
            download_artifacts(f"models:/{MODEL}/{entry.version}", dst_path=str(temporary))
    return target
