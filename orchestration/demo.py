"""`python -m orchestration.demo`: materializes the whole graph once, with real images as input.

Finished steps are skipped, so it can be stopped at any point and started again.
"""

import fcntl
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import dagster as dg

from fourdnex.identity import repository_root
from fourdnex.io.files import atomic_dir
from fourdnex.tracking import tracking_uri
from fourdnex.workspace import VARIABLE, Workspace
from orchestration.data_state import run_dvc
from orchestration.defs.training.jobs import CHAIN
from orchestration.history import latest_observation
from orchestration.home import open_instance
from orchestration.partitions import partition_range_tags
from orchestration.staleness import Outstanding

OBSERVED = ("source_clips", "base_model")
BY_SHARD = ("annotated_clips", "curation_scores", "training_latents")
COLLECTION = "photographs"
DEMO_WORLDS = "16"  # held-out worlds for evaluation; FOURDNEX_EVALUATION_WORLDS overrides it
_DEMO_TAG = "fourdnex/demo"


class DemoError(RuntimeError):
    """A step failed; the message names it and the reason."""


def main() -> int:
    """Run the demo; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops child processes, as Ctrl-C does
    root = repository_root()
    workspace = Workspace(Path(os.environ.get(VARIABLE) or root / "workspace").expanduser().absolute())
    os.environ[VARIABLE] = str(workspace.root)
    os.environ.setdefault("FOURDNEX_EVALUATION_WORLDS", DEMO_WORLDS)
    started = time.monotonic()
    try:
        with _exclusive(workspace):
            run_demo(root, workspace)
    except KeyboardInterrupt:
        print("\nStopped. Run it again to resume.")
        return 130
    except (DemoError, ValueError, OSError) as error:
        print(f"\nThe demo failed: {error}")
        return 1
    _print_summary(workspace, time.monotonic() - started)
    return 0


def run_demo(root: Path, workspace: Workspace) -> None:
    """Materialize all assets that are missing or stale, and generate scenes of the example photographs.

    Raises:
        DemoError: a step failed.
    """
    print(f"fourdnex: the whole graph at tiny size, in {_relative(workspace.root)}\n")
    if not (root / "data").is_dir():
        _run_timed("data", lambda: run_dvc(root, "pull") and "fetched with dvc pull")
    from orchestration.definitions import defs as load

    tracking_uri(workspace)  # updates the paths in a store that was moved or copied
    with open_instance(workspace) as instance:
        demo = _Demo(instance, load())
        demo.cancel_dead_runs()
        for asset in CHAIN:
            demo.step(asset, always=asset in OBSERVED)
        if instance.get_latest_materialization_event(dg.AssetKey("champion")) is None:
            raise DemoError(f"no adapter passed the rules for promotion: {demo.refusal_reason()}")
        _fill_inbox(root, workspace)
        instance.add_dynamic_partitions("collections", [COLLECTION])
        demo.step("image_collections", partition=COLLECTION, always=True)
        demo.step("point_clouds", partition=COLLECTION)
        demo.step("novel_views", partition=COLLECTION)


class _Demo:
    """Runs single assets in this process; the instance records each run like any other."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self.instance = instance
        self.defs = defs
        self.job = defs.resolve_implicit_global_asset_job_def()
        self.logger = _terse_logger(os.fdopen(os.dup(sys.stdout.fileno()), "w"))

    def step(self, asset: str, *, partition: str | None = None, always: bool = False) -> None:
        """Materialize the missing or stale partitions of an asset (`always`: the asset in any case); print one line."""
        outstanding = Outstanding(self.instance, self.defs)
        shards = self.instance.get_dynamic_partitions("shards")
        tags: dict[str, str] = {}
        if asset in BY_SHARD:
            due = outstanding.partitions(asset, shards)
            tags = partition_range_tags(shards, due)
        elif partition is not None:
            due = [partition] if always else outstanding.partitions(asset, [partition])
        else:
            due = [asset] if always or outstanding.is_due(asset) else []
        if not due:
            print(f"  {asset:<18} up to date")
            return
        _run_timed(asset, lambda: self._run(asset, partition, tags))

    def cancel_dead_runs(self) -> None:
        """Cancel the runs of an earlier demo that was killed, and free their concurrency slots."""
        alive = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
        for run in self.instance.get_runs(dg.RunsFilter(tags={_DEMO_TAG: "true"}, statuses=alive)):
            self.instance.report_run_canceled(run, message="The demo process of this run was killed.")
        ended = dg.RunsFilter(tags={_DEMO_TAG: "true"}, statuses=[dg.DagsterRunStatus.CANCELED])
        for run in self.instance.get_runs(ended, limit=20):
            self.instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)

    def refusal_reason(self) -> str:
        """The reason why the latest challenger was not promoted."""
        return str(latest_observation(self.instance, "champion").get("reason", "see the run in the Dagster UI"))

    def _run(self, asset: str, partition: str | None, tags: dict[str, str]) -> str:
        """Materialize one asset; returns a summary of the results."""
        # The logger is added last because a subset of a job does not keep it.
        job = self.job.get_subset(asset_selection={dg.AssetKey(asset)}).with_logger_defs({"console": self.logger})
        with _silenced_terminal():
            result = job.execute_in_process(
                instance=self.instance,
                partition_key=partition,
                tags={_DEMO_TAG: "true", **tags},
                raise_on_error=False,
            )
        if not result.success:
            if _was_interrupted(result):
                raise KeyboardInterrupt
            raise DemoError(f"{asset}: {_failure_reason(result)}")
        if asset == "champion" and not result.get_asset_materialization_events():
            return f"refused: {self.refusal_reason()}"
        if asset == "source_clips":
            return f"{len(self.instance.get_dynamic_partitions('shards'))} shards"
        return _summarize(result)


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a run was ended by a signal, which Dagster reports as a step failure."""
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and "Interrupt" in (error.cls_name or "") for error in failures)


def _failure_reason(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed: the descriptions of the failed checks, or the message of the original error."""
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    if failed:
        return "; ".join(f"{check.check_name}: {check.description}" for check in failed)
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data is not None and failure.user_failure_data.description:
                return failure.user_failure_data.description
            error = failure.error
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                # The class of an error of this project adds nothing to its message.
                return re.sub(r"^(fourdnex|orchestration)\.[\w.]+: ", "", error.message.strip())
    return "the run failed; see it in the Dagster UI"


_COUNTS = ("requested", "done", "cached", "failed")
_SHOWN = (*_COUNTS, "accepted", "rejected", "steps", "loss", "adapter_norm", "held_out_worlds", "version", "images")


def _summarize(result: dg.ExecuteInProcessResult) -> str:
    """The numbers in a run's materializations; counts are summed over partitions."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    # A run may record a partition twice: when it is finished, and when the asset ends.
    latest = {event.partition: {key: value.value for key, value in event.metadata.items()} for event in events}
    values: dict[str, Any] = {}
    for metadata in latest.values():
        for key, value in metadata.items():
            values[key] = values[key] + value if key in values and key in _COUNTS else value
    gains = {key: f"{value:.0%}" for key, value in values.items() if key.startswith("gain ")}
    shown = {key: values[key] for key in _SHOWN if isinstance(values.get(key), str | int | float)} | gains
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items()
    )


def _run_timed(name: str, work: Callable[[], str]) -> None:
    """Run a step, and print its duration and the summary that it returns."""
    print(f"  {name:<18} ...", flush=True)
    started = time.monotonic()
    summary = work()
    print(f"  {name:<18} {time.monotonic() - started:6.1f} s  {summary}", flush=True)


def _fill_inbox(root: Path, workspace: Workspace) -> None:
    """Copy the example photographs to the inbox, unless it has a collection of that name."""
    target = workspace.inbox / COLLECTION
    if target.is_dir():
        return
    with atomic_dir(target) as temporary:
        for path in sorted((root / "examples" / COLLECTION).iterdir()):
            if path.is_file():
                shutil.copyfile(path, temporary / path.name)


@contextmanager
def _exclusive(workspace: Workspace) -> Iterator[None]:
    """Hold the lock of the workspace: two demos would write to the same folders."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    with open(workspace.root / ".demo.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"another demo is running in {_relative(workspace.root)}") from error
        yield


def _terse_logger(terminal: TextIO) -> dg.LoggerDefinition:
    """A logger that prints the messages of the steps, one indented line each."""

    @dg.logger
    def terse(_context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("fourdnex.demo", level=logging.INFO)
        handler = logging.StreamHandler(terminal)
        handler.setFormatter(_TerseFormatter())
        logger.addHandler(handler)
        return logger

    return terse


class _TerseFormatter(logging.Formatter):
    """Formats the first line of a message, without Dagster's prefix."""

    def format(self, record: logging.LogRecord) -> str:
        """The first line of a message, indented and shortened."""
        message = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return "      " + str(message).strip().splitlines()[0][:160]


@contextmanager
def _silenced_terminal() -> Iterator[None]:
    """Suppress the output of libraries on the terminal; the captured logs in Dagster's UI still show it."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(number) for number in (1, 2)]
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(devnull, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(devnull)


def _print_summary(workspace: Workspace, seconds: float) -> None:
    """Print where the scenes are and what to do next."""
    folder = workspace.scenes / COLLECTION
    scenes = sorted(path.parent for path in folder.glob("*/scene.json"))
    print(f"\nDone in {seconds / 60:.1f} minutes: {len(scenes)} scenes in {_relative(folder)}")
    for scene in scenes[:8]:
        print(f"  {_relative(scene)}")
    python = _relative(Path(sys.executable))
    print(f"\nView a scene    {python} -m fourdnex view {_relative(scenes[0]) if scenes else 'SCENE'}")
    print("Dagster, MLflow make ui, then http://127.0.0.1:3000 (assets, lineage) and http://127.0.0.1:5000 (runs)")
    print(f"Your images     put a folder of images into {_relative(workspace.inbox)} while `make ui` runs")


def _relative(path: Path) -> str:
    """The path relative to the working directory, if it is below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
