"""MLflow runs: data set, parameters, metrics, artifacts and status."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fourdnex.tracking.client import (
    has_store,
    none_if_missing,
    open_client,
    store_folder,
    store_lock,
    without_password,
)
from fourdnex.workspace import Workspace

_LOG = logging.getLogger(__name__)
EXPERIMENT = "fourdnex-lora"
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """The data set of a training run. `digest` is DVC's md5 (at most 36 characters, the length of `<md5>.dir`)."""

    name: str
    digest: str
    source: str


class TrackingRun:
    """An MLflow run as a context manager: FINISHED on exit, FAILED after an error, KILLED when interrupted."""

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
        parent: str | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """Start a run, or resume `run_id`.

        If the store no longer has `run_id`, a warning is logged and a new run starts. A run nested in `parent` resumes
        the nested run of the same name that was interrupted or killed, if there is one.

        Args:
            experiment: name of the experiment, created if needed.
            name: name of a new run.
            params: parameters of a new run.
            dataset: data set of a new run: `TrackedDataset`, or (name, digest, source).
            tags: tags; those that are None are omitted.
            run_id: run to resume.
            parent: id of the parent run.
            workspace: workspace of the store; default: the current one.

        Raises:
            ValueError: if the data set's digest is longer than MLflow allows.
        """
        if dataset is not None and not isinstance(dataset, TrackedDataset):
            dataset = TrackedDataset(name=dataset[0], digest=dataset[1], source=dataset[2])
        if dataset is not None and not 0 < len(dataset.digest) <= 36:
            raise ValueError(f"dataset digest: expected 1 to 36 characters, got {dataset.digest!r}")
        client = open_client(workspace)
        if run_id is not None and not _is_active(client, run_id):
            place = without_password(client.tracking_uri)
            _LOG.warning("MLflow, %s: run %s no longer exists, starting a new one", place, run_id)
            run_id = None
        if parent is not None:
            tags = {**(tags or {}), _PARENT: parent}
            run_id = run_id or _interrupted_run(client, experiment_id(client, experiment, workspace), parent, name)
        if run_id is None:
            run = client.create_run(experiment_id(client, experiment, workspace), run_name=name)
            started = cls(run.info.run_id, client)
            started.log_params(params or {})
            if dataset is not None:
                started._log_dataset(dataset)
        else:
            started = cls(run_id, client)
            client.update_run(run_id, status="RUNNING")
        started.set_tags(tags or {})
        return started

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Set the run's final status."""
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._client.set_terminated(self.run_id, status)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters."""
        for key, value in params.items():
            self._client.log_param(self.run_id, key, value)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step, in one transaction. Names may contain letters, digits and `_-./ `."""
        from mlflow.entities import Metric

        now = int(datetime.now(UTC).timestamp() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags as strings; those that are None are omitted."""
        for key, value in tags.items():
            if value is not None:
                self._client.set_tag(self.run_id, key, str(value))

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Log a file or the contents of a folder under `folder` of the run's artifacts."""
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder or None)

    def log_image(self, image: np.ndarray, name: str) -> None:
        """Log an image [H, W, 3] uint8 as the file `name`, for example "samples/step-100.png"."""
        self._client.log_image(self.run_id, image, artifact_file=name)

    def log_figure(self, figure: Any, name: str) -> None:
        """Log a matplotlib figure as the file `name`."""
        self._client.log_figure(self.run_id, figure, name)

    def _log_dataset(self, dataset: TrackedDataset) -> None:
        """Log the data set as the run's training input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"path": dataset.source, "dvc_md5": dataset.digest})
        entity = Dataset(name=dataset.name, digest=dataset.digest, source_type="dvc", source=source)
        self._client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """A run in the store."""

    run_id: str
    name: str
    status: str
    started: datetime


def find_run(run_id: str, *, workspace: Workspace | None = None) -> FoundRun | None:
    """The run with this id; None if there is none."""
    if not has_store(workspace):
        return None
    info = None
    with none_if_missing():
        info = open_client(workspace).get_run(run_id).info
    if info is None:
        return None
    started = datetime.fromtimestamp(info.start_time / 1000, UTC)
    return FoundRun(run_id=run_id, name=info.run_name, status=info.status, started=started)


def add_image(run_id: str, image: np.ndarray, name: str, *, workspace: Workspace | None = None) -> None:
    """Add an image [H, W, 3] uint8 to a finished run as the file `name`, without changing its status.

    Raises:
        ValueError: if there is no such run.
    """
    client = open_client(workspace)
    client.log_image(_existing_run(client, run_id), image, artifact_file=name)


def experiment_id(client: Any, name: str, workspace: Workspace | None) -> str:
    """Id of the experiment `name`, which is created if needed."""
    with store_lock(workspace):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        if not client.tracking_uri.startswith("sqlite"):
            return client.create_experiment(name)  # a server configures its artifact location
        return client.create_experiment(name, artifact_location=(store_folder(workspace) / "artifacts" / name).as_uri())


def _interrupted_run(client: Any, experiment: str, parent: str, name: str | None) -> str | None:
    """Id of the run `name` nested in `parent` that did not finish: it was interrupted, or its process was killed."""
    nested = [run.info for run in client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'")]
    return next((run.run_id for run in nested if run.run_name == name and run.status in ("RUNNING", "KILLED")), None)


def _is_active(client: Any, run_id: str) -> bool:
    """Whether the run exists and is not deleted."""
    stage = None
    with none_if_missing():
        stage = client.get_run(run_id).info.lifecycle_stage
    return stage == "active"


def _existing_run(client: Any, run_id: str) -> str:
    """`run_id`, if there is such a run; ValueError otherwise."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.run_id
    except MlflowException as error:
        place = without_password(client.tracking_uri)
        raise ValueError(f"run_id: expected a run in {place}, got {run_id!r} ({error})") from error
