"""`python -m orchestration.demo`: the whole graph, once, on real images.

What is finished is not done again, so it can be stopped at any point and started again.
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
from orchestration.partitions import partition_range
from orchestration.staleness import Outstanding

OBSERVED = ("source_clips", "base_model")
BY_SHARD = ("annotated_clips", "curation_scores", "training_latents")
COLLECTION = "photographs"
DEMO_WORLDS = "16"  # held-out worlds that the demo evaluates on, unless the environment says otherwise
_DEMO_TAG = "fourdnex/demo"


class DemoError(RuntimeError):
    """A step did not succeed; the message says which one and why."""


def main() -> int:
    """Run the demo; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    root = repository_root()
    workspace = Workspace(Path(os.environ.get(VARIABLE) or root / "workspace").expanduser().absolute())
    os.environ[VARIABLE] = str(workspace.root)
    os.environ.setdefault("FOURDNEX_EVALUATION_WORLDS", DEMO_WORLDS)
    started = time.monotonic()
    try:
        with _alone(workspace):
            run_demo(root, workspace)
    except KeyboardInterrupt:
        print("\nStopped. Start it again, and it goes on from here.")
        return 130
    except (DemoError, ValueError, OSError) as error:
        print(f"\nThe demo cannot go on: {error}")
        return 1
    _say_where(root, workspace, time.monotonic() - started)
    return 0


def run_demo(root: Path, workspace: Workspace) -> None:
    """Bring everything up to date, then make scenes of the example photographs.

    Raises:
        DemoError: a step failed.
    """
    print(f"fourdnex: the whole loop at tiny size, in {_short(workspace.root)}\n")
    if not (root / "data").is_dir():
        _timed("data", lambda: run_dvc(root, "pull") and "fetched with dvc pull")
    from orchestration.definitions import defs as load

    tracking_uri(workspace)  # brings a store that was moved or copied here to its present place
    with open_instance(workspace) as instance:
        demo = _Demo(instance, load())
        demo.fail_dead_runs()
        for asset in CHAIN:
            demo.step(asset, always=asset in OBSERVED)
        if instance.get_latest_materialization_event(dg.AssetKey("champion")) is None:
            raise DemoError(f"no adapter was good enough to become champion: {demo.refusal()}")
        _fill_inbox(root, workspace)
        instance.add_dynamic_partitions("collections", [COLLECTION])
        demo.step("image_collections", partition=COLLECTION, always=True)
        demo.step("point_clouds", partition=COLLECTION)
        demo.step("novel_views", partition=COLLECTION)


class _Demo:
    """Steps of the graph, each a run in this process, each recorded in the instance as any other run."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self.instance = instance
        self.defs = defs
        self.job = defs.resolve_implicit_global_asset_job_def()
        self.logger = _logger(os.fdopen(os.dup(sys.stdout.fileno()), "w"))

    def step(self, asset: str, *, partition: str | None = None, always: bool = False) -> None:
        """Materialize what is missing or stale of one asset (`always`: all of it), and say so in one line."""
        outstanding = Outstanding(self.instance, self.defs)
        shards = self.instance.get_dynamic_partitions("shards")
        tags: dict[str, str] = {}
        if asset in BY_SHARD:
            due = outstanding.partitions(asset, shards)
            tags = partition_range(shards, due)
        elif partition is not None:
            due = [partition] if always else outstanding.partitions(asset, [partition])
        else:
            due = [asset] if always or outstanding.is_due(asset) else []
        if not due:
            print(f"  {asset:<18} up to date")
            return
        _timed(asset, lambda: self._run(asset, partition, tags))

    def fail_dead_runs(self) -> None:
        """End the runs that an earlier demo left behind when it was killed, and give back what they held."""
        alive = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
        for run in self.instance.get_runs(dg.RunsFilter(tags={_DEMO_TAG: "true"}, statuses=alive)):
            self.instance.report_run_canceled(run, message="The demo that ran it was killed.")
        ended = dg.RunsFilter(tags={_DEMO_TAG: "true"}, statuses=[dg.DagsterRunStatus.CANCELED])
        for run in self.instance.get_runs(ended, limit=20):
            self.instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)

    def refusal(self) -> str:
        """Why the latest challenger was refused."""
        return str(latest_observation(self.instance, "champion").get("reason", "see the run in the Dagster UI"))

    def _run(self, asset: str, partition: str | None, tags: dict[str, str]) -> str:
        # The logger last: a subset of a job does not keep it.
        job = self.job.get_subset(asset_selection={dg.AssetKey(asset)}).with_logger_defs({"console": self.logger})
        with _off_the_terminal():
            result = job.execute_in_process(
                instance=self.instance,
                partition_key=partition,
                tags={_DEMO_TAG: "true", **tags},
                raise_on_error=False,
            )
        if not result.success:
            if _interrupted(result):
                raise KeyboardInterrupt
            raise DemoError(f"{asset}: {_why(result)}")
        if asset == "champion" and not result.get_asset_materialization_events():
            return f"refused: {self.refusal()}"
        if asset == "source_clips":
            return f"{len(self.instance.get_dynamic_partitions('shards'))} shards"
        return _in_words(result)


def _interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a run was ended by a signal, which Dagster takes as a failure of its step."""
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and "Interrupt" in (error.cls_name or "") for error in failures)


def _why(result: dg.ExecuteInProcessResult) -> str:
    """What failed in a run, in the words of the check or of who raised the error."""
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
                return re.sub(r"^(fourdnex|orchestration)\.[\w.]+: ", "", error.message.strip())  # our own say enough
    return "it failed; see the run in the Dagster UI"


_COUNTS = ("requested", "done", "cached", "failed")
_SHOWN = (*_COUNTS, "accepted", "rejected", "steps", "loss", "adapter_norm", "held_out_worlds", "version", "images")


def _in_words(result: dg.ExecuteInProcessResult) -> str:
    """The numbers that a run's materializations show; counts of several partitions are added up."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    # A partition may be recorded twice in a run: when it is finished, and when all are.
    latest = {event.partition: {key: value.value for key, value in event.metadata.items()} for event in events}
    known: dict[str, Any] = {}
    for metadata in latest.values():
        for key, value in metadata.items():
            known[key] = known[key] + value if key in known and key in _COUNTS else value
    gains = {key: f"{value:.0%}" for key, value in known.items() if key.startswith("gain ")}
    shown = {key: known[key] for key in _SHOWN if isinstance(known.get(key), str | int | float)} | gains
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items()
    )


def _timed(name: str, work: Callable[[], str]) -> None:
    print(f"  {name:<18} ...", flush=True)
    started = time.monotonic()
    said = work()
    print(f"  {name:<18} {time.monotonic() - started:6.1f} s  {said}", flush=True)


def _fill_inbox(root: Path, workspace: Workspace) -> None:
    """Put the example photographs into the inbox, unless a collection of that name is there."""
    target = workspace.inbox / COLLECTION
    if target.is_dir():
        return
    with atomic_dir(target) as temporary:
        for path in sorted((root / "examples" / COLLECTION).iterdir()):
            if path.is_file():
                shutil.copyfile(path, temporary / path.name)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Two demos in one workspace would train into the same folders."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    with open(workspace.root / ".demo.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"another demo is running in {_short(workspace.root)}") from error
        yield


def _logger(terminal: TextIO) -> dg.LoggerDefinition:
    """What the steps themselves say, one indented line each."""

    @dg.logger
    def terse(_context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("fourdnex.demo", level=logging.INFO)
        handler = logging.StreamHandler(terminal)
        handler.setFormatter(_Terse())
        logger.addHandler(handler)
        return logger

    return terse


class _Terse(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return "      " + str(message).strip().splitlines()[0][:160]


@contextmanager
def _off_the_terminal() -> Iterator[None]:
    """What libraries print on the way goes to the run's captured logs, which Dagster's UI shows, and only there."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def _say_where(root: Path, workspace: Workspace, seconds: float) -> None:
    folder = workspace.scenes / COLLECTION
    scenes = sorted(path.parent for path in folder.glob("*/scene.json"))
    print(f"\nDone in {seconds / 60:.1f} minutes: {len(scenes)} scenes in {_short(folder)}")
    for scene in scenes[:8]:
        print(f"  {_short(scene)}")
    python = _short(Path(sys.executable))
    print(f"\nLook at one     {python} -m fourdnex view {_short(scenes[0]) if scenes else 'SCENE'}")
    print("Dagster, MLflow make ui     then http://127.0.0.1:3000 (assets, lineage) and http://127.0.0.1:5000 (runs)")
    print(f"Your images   put a folder of them into {_short(workspace.inbox)} while `make ui` runs")


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
