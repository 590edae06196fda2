"""Runs of an experiment: what they learn from, their parameters, curves and images, and how they ended."""

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
    store_alone,
    store_folder,
    without_password,
)
from fourdnex.workspace import Workspace

_LOG = logging.getLogger(__name__)
EXPERIMENT = "fourdnex-lora"
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """The data set a run learns from. `digest` is DVC's md5 (at most 36 characters: exactly `<md5>.dir`)."""

    name: str
    digest: str
    source: str


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
        parent: str | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """Begin a run, or go on with `run_id`. `dataset` is (name, digest, source); None among `tags` is left out.

        Where the store no longer has `run_id`, that is warned of, and a new run begins.
        A run below the run `parent` goes on with the one of its name there that was interrupted or cut off, if there is
        one.

        Raises:
            ValueError: the data set's digest is longer than MLflow keeps.
        """
        if dataset is not None and not isinstance(dataset, TrackedDataset):
            dataset = TrackedDataset(name=dataset[0], digest=dataset[1], source=dataset[2])
        if dataset is not None and not 0 < len(dataset.digest) <= 36:
            raise ValueError(f"dataset digest: expected 1 to 36 characters, got {dataset.digest!r}")
        client = open_client(workspace)
        if run_id is not None and not _is_active(client, run_id):
            place = without_password(client.tracking_uri)
            _LOG.warning("MLflow, %s: run %s is no longer there, a new one begins", place, run_id)
            run_id = None
        if parent is not None:
            tags = {**(tags or {}), _PARENT: parent}
            run_id = run_id or _cut_off(client, experiment_id(client, experiment, workspace), parent, name)
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
        """Keep an image [H, W, 3] uint8 as the file `name`, for instance "samples/step-100.png"."""
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
class FoundRun:
    """One MLflow run as the store has it."""

    run_id: str
    name: str
    status: str
    started: datetime


def find_run(run_id: str, *, workspace: Workspace | None = None) -> FoundRun | None:
    """The run of this id; None when the store has none."""
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
    """Keep an image [H, W, 3] uint8 with a run that has ended, as the file `name`; what it says of itself stays.

    Raises:
        ValueError: there is no such run.
    """
    client = open_client(workspace)
    client.log_image(_existing_run(client, run_id), image, artifact_file=name)


def experiment_id(client: Any, name: str, workspace: Workspace | None) -> str:
    """The id of the experiment `name`, which is made where it is not there yet."""
    with store_alone(workspace):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        if not client.tracking_uri.startswith("sqlite"):
            return client.create_experiment(name)  # a server knows where artifacts go
        return client.create_experiment(name, artifact_location=(store_folder(workspace) / "artifacts" / name).as_uri())


def _cut_off(client: Any, experiment: str, parent: str, name: str | None) -> str | None:
    """The run `name` below `parent` that never came to its end: it was interrupted, or its process was killed."""
    below = [run.info for run in client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'")]
    return next((run.run_id for run in below if run.run_name == name and run.status in ("RUNNING", "KILLED")), None)


def _is_active(client: Any, run_id: str) -> bool:
    """Whether the store has the run and it is not deleted."""
    stage = None
    with none_if_missing():
        stage = client.get_run(run_id).info.lifecycle_stage
    return stage == "active"


def _existing_run(client: Any, run_id: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.run_id
    except MlflowException as error:
        place = without_password(client.tracking_uri)
        raise ValueError(f"run_id: expected a run of {place}, got {run_id!r} ({error})") from error
