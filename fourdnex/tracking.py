"""Experiments and the registry of adapters: the only module that imports mlflow.

The store is `workspace/mlflow/mlflow.db` with its artifacts beside it, or the server that MLFLOW_TRACKING_URI names.
An adapter becomes a version of the registered model `fourdnex-adapter`; the aliases `challenger` and `champion` say
which one is proposed and which one serves.
"""

import json
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fourdnex import identity
from fourdnex.files import atomic_dir, read_json, sha256_tree
from fourdnex.workspace import Workspace

EXPERIMENT = "fourdnex-lora"
MODEL = "fourdnex-adapter"
CHALLENGER, CHAMPION, FORMER_CHAMPION = "challenger", "champion", "former-champion"
_VARIABLE = "MLFLOW_TRACKING_URI"
_SERVED_WITH = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """The data set a run learns from. `digest` is DVC's md5 (at most 36 characters: exactly `<md5>.dir`)."""

    name: str
    digest: str
    source: str


class TrackingError(OSError):
    """The store cannot be used: no room, no permission, no answer; the message names it."""


class TrackingRun:
    """One MLflow run as a context: FINISHED when the block ends, FAILED after an error, KILLED when interrupted."""

    def __init__(self, run_id: str, client: Any) -> None:
        self.run_id = run_id
        self._client = client

    @classmethod
    def start(
        cls,
        experiment: str = EXPERIMENT,
        *,
        name: str | None = None,
        params: Mapping[str, Any] | None = None,
        dataset: TrackedDataset | tuple[str, str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """Begin a run, or go on with `run_id`. `dataset` is (name, digest, source); None among `tags` is left out.

        Raises:
            ValueError: the data set's digest is longer than MLflow keeps, or `run_id` is not in the store.
        """
        if dataset is not None and not isinstance(dataset, TrackedDataset):
            dataset = TrackedDataset(name=dataset[0], digest=dataset[1], source=dataset[2])
        if dataset is not None and not 0 < len(dataset.digest) <= 36:
            raise ValueError(f"dataset digest: expected 1 to 36 characters, got {dataset.digest!r}")
        client = _client(workspace)
        if run_id is None:
            run = client.create_run(_experiment(client, experiment, workspace), run_name=name)
            started = cls(run.info.run_id, client)
            started.log_params(params or {})
            if dataset is not None:
                started._log_dataset(dataset)
        else:
            started = cls(_existing_run(client, run_id), client)
            client.update_run(run_id, status="RUNNING")
        started.set_tags(tags or {})
        return started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._client.set_terminated(self.run_id, status)

    def log_params(self, params: Mapping[str, Any]) -> None:
        for key, value in params.items():
            self._client.log_param(self.run_id, key, value)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at one step, in one transaction. Names may hold letters, digits and `_-./ `."""
        from mlflow.entities import Metric

        now = int(datetime.now(UTC).timestamp() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        for key, value in tags.items():
            if value is not None:
                self._client.set_tag(self.run_id, key, str(value))

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Keep one file, or a folder with all that is in it, under `folder` of the run's artifacts."""
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder or None)

    def log_image(self, image: np.ndarray, name: str) -> None:
        """Keep a picture [H, W, 3] uint8 as the file `name`, for instance "samples/step-100.png"."""
        self._client.log_image(self.run_id, image, artifact_file=name)

    def log_figure(self, figure: Any, name: str) -> None:
        """Keep a matplotlib figure as the file `name`."""
        self._client.log_figure(self.run_id, figure, name)

    def _log_dataset(self, dataset: TrackedDataset) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"path": dataset.source, "dvc_md5": dataset.digest})
        entity = Dataset(name=dataset.name, digest=dataset.digest, source_type="dvc", source=source)
        self._client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


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


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """One MLflow run as the store has it."""

    run_id: str
    name: str
    status: str
    started: datetime


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
    identity's `adapter_digest`, keeps its version.

    Raises:
        ValueError: the identity has no adapter digest.
        FileNotFoundError: the adapter folder or the report is missing.
    """
    digest = known.get("adapter_digest")
    if not digest:
        raise ValueError("known: expected the adapter's digest under 'adapter_digest', got none")
    content = sha256_tree(adapter_dir)
    read_json(report)
    client = _client(workspace)
    version = _registered_as(client, digest)
    if version is None:
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
    if not _has_store(workspace):
        return None
    from mlflow.exceptions import MlflowException

    client = _client(workspace)
    try:
        version = client.get_model_version_by_alias(MODEL, alias).version
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _adapter(client, str(version), workspace)


def registered(adapter_digest: str, *, workspace: Workspace | None = None) -> RegisteredAdapter | None:
    """The latest version with this adapter, its files fetched and checked; None when it is not registered.

    Raises:
        ValueError: the adapter's files are not those that were registered.
    """
    client = _client(workspace) if _has_store(workspace) else None
    version = _registered_as(client, adapter_digest) if client is not None else None
    return None if version is None else _adapter(client, version, workspace)


def find_run(run_id: str, *, workspace: Workspace | None = None) -> FoundRun | None:
    """The run of this id; None when the store has none."""
    if not _has_store(workspace):
        return None
    from mlflow.exceptions import MlflowException

    try:
        info = _client(workspace).get_run(run_id).info
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    started = datetime.fromtimestamp(info.start_time / 1000, UTC)
    return FoundRun(run_id=run_id, name=info.run_name, status=info.status, started=started)


def promote(
    version: str, *, tags: Mapping[str, Any] | None = None, workspace: Workspace | None = None
) -> RegisteredAdapter:
    """Let the alias `champion` point to `version`; the present champion keeps the alias `former-champion`."""
    client = _client(workspace)
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

    with _default_store(tracking_uri(workspace)):
        return mlflow.pyfunc.load_model(adapter.model_uri, suppress_warnings=True)


def tracking_uri(workspace: Workspace | None = None) -> str:
    """MLFLOW_TRACKING_URI where it is set, else the SQLite file in the workspace (its folder is made)."""
    uri = store(workspace)
    if not os.environ.get(_VARIABLE):
        _folder(workspace).mkdir(parents=True, exist_ok=True)
    return uri


def store(workspace: Workspace | None = None) -> str:
    """As `tracking_uri`, but nothing is made: the store may not be there yet."""
    return os.environ.get(_VARIABLE) or f"sqlite:///{_folder(workspace) / 'mlflow.db'}"


def _has_store(workspace: Workspace | None) -> bool:
    """To ask one that is not there would make it."""
    return bool(os.environ.get(_VARIABLE)) or (_folder(workspace) / "mlflow.db").is_file()


def _folder(workspace: Workspace | None) -> Path:
    return (workspace or Workspace.default()).mlflow_database.parent.resolve()


def _client(workspace: Workspace | None) -> Any:
    # Before the import: MLflow reads them there. No usage statistics leave this machine unless a user asks for it.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # opens the store, or makes its tables
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise TrackingError(f"MLflow, {uri}: {str(error).splitlines()[0]}") from error
    return client


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Let MLflow's functions that know no client use this store, and leave no trace of it.

    MLflow writes the store into the environment as well, where it would look like a user's wish ever after.
    """
    import mlflow

    given = os.environ.get(_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if given is not None:
            os.environ[_VARIABLE] = given


def _experiment(client: Any, name: str, workspace: Workspace | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    if not client.tracking_uri.startswith("sqlite:"):
        return client.create_experiment(name)  # a server knows where artifacts go
    return client.create_experiment(name, artifact_location=(_folder(workspace) / "artifacts" / name).as_uri())


def add_picture(run_id: str, image: np.ndarray, name: str, *, workspace: Workspace | None = None) -> None:
    """Keep a picture [H, W, 3] uint8 with a run that has ended, as the file `name`; what it says of itself stays.

    Raises:
        ValueError: there is no such run.
    """
    client = _client(workspace)
    client.log_image(_existing_run(client, run_id), image, artifact_file=name)


def _existing_run(client: Any, run_id: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.run_id
    except MlflowException as error:
        raise ValueError(f"run_id: expected a run of {client.tracking_uri}, got {run_id!r} ({error})") from error


def _registered_as(client: Any, digest: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", digest):
        raise ValueError(f"adapter_digest: expected letters and digits, got {digest!r}")
    found = client.search_model_versions(f"name = '{MODEL}' and tags.adapter_digest = '{digest}'")
    return max((str(version.version) for version in found), key=int, default=None)


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

    import mlflow

    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "image")]),
        outputs=Schema([ColSpec("string", "image"), ColSpec("string", "scene")]),
        params=ParamSchema([ParamSpec("output_dir", "string", ""), ParamSpec("seed", "long", 0)]),
    )
    experiment = _experiment(client, EXPERIMENT, workspace)
    before = client.get_run(run_id).info if run_id else None
    with (
        _default_store(client.tracking_uri),
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
    if location.startswith("file:") or "://" not in location:
        return Path(local_file_uri_to_path(location))
    target = _folder(workspace) / "downloads" / f"{MODEL}-{entry.version}"
    if not target.is_dir():
        with _default_store(client.tracking_uri), atomic_dir(target) as temporary:
            download_artifacts(f"models:/{MODEL}/{entry.version}", dst_path=str(temporary))
    return target
