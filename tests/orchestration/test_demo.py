"""The demo as a user starts it, with a base of random weights and four worlds."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fourdnex.telemetry import OPT_OUT_VARIABLES

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path, random_base):
    """(root, start): a repository with its data under DVC but not fetched, and how to start the demo in it."""
    from dvc.repo import Repo

    from fourdnex.datasets.build import build_data

    root = tmp_path / "repository"
    (tmp_path / "home").mkdir()
    build_data(root / "data", num_worlds=4, with_real=False)
    with Repo.init(str(root), no_scm=True) as repo:
        repo.add(str(root / "data"))
    (root / "mlflow").mkdir()
    (root / "mlflow" / "promotion.yaml").write_text((REPOSITORY / "mlflow" / "promotion.yaml").read_text())
    subprocess.run([sys.executable, "-c", "import shutil; shutil.rmtree('data')"], cwd=root, check=True)
    (root / ".dvc" / "config").write_text(
        "[core]\n    no_scm = True\n    remote = here\n['remote \"here\"']\n    url = ../remote\n"
    )

    def start() -> subprocess.Popen:
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "FOURDNEX_ROOT": str(root),
            "FOURDNEX_MODEL": str(random_base),
            "FOURDNEX_EVALUATION_WORLDS": "1",
            "FOURDNEX_TRAINING_OPTIONS": '{"steps": 3, "batch_size": 2, "num_samples": 0}',
            "OMP_NUM_THREADS": "1",
            "HOME": str(tmp_path / "home"),
        }
        for variable in (
            "FOURDNEX_WORKSPACE",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            *OPT_OUT_VARIABLES,
        ):
            environment.pop(variable, None)
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestration.demo"],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    started: list[subprocess.Popen] = []
    yield root, start
    for process in started:
        with process:  # closes its pipe and waits for it
            process.kill()


@pytest.mark.slow
def test_the_demo_stops_at_a_failed_check_and_repeats_nothing_when_started_again(demo):
    root, start = demo
    first = start()
    output, _ = first.communicate(timeout=900)
    assert first.returncode == 1, output
    assert "fetched with dvc pull" in output
    assert "evaluation_report: beats_baselines: not better than" in output, output
    again = start()
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 1, output
    for asset in ("annotated_clips", "curation_scores", "curated_manifest", "training_latents", "adapter"):
        assert f"  {asset:<18} up to date" in output, output
    left = [path.relative_to(root.parent).parts for path in (root.parent / "home").rglob("*") if path.is_file()]
    assert [parts for parts in left if parts[2] not in ("matplotlib", "fourdnex")] == [], "only documented caches"


@pytest.mark.slow
def test_a_killed_demo_resumes(demo):
    root, start = demo
    killed = start()
    shard = root / "workspace" / "annotated"
    end = time.monotonic() + 600
    while not list(shard.glob("worlds-*")) and time.monotonic() < end:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = start()
    output, _ = again.communicate(timeout=900)
    assert "evaluation_report: beats_baselines" in output, output


@pytest.mark.slow
def test_a_demo_killed_repeatedly_reaches_the_same_result(demo):
    """SIGKILL to the demo and all its children at random times, until one run completes."""
    root, start = demo
    chance = random.Random(0)
    for _ in range(12):
        running = start()
        try:
            running.communicate(timeout=chance.uniform(4, 25))
            break
        except subprocess.TimeoutExpired:
            family = [*psutil.Process(running.pid).children(recursive=True), running]
            for process in family:
                process.kill()
            running.communicate()
    output, _ = start().communicate(timeout=900)
    assert "evaluation_report: beats_baselines" in output, output
    assert not [path for path in root.rglob(".*") if ".tmp" in path.name]
    table = pd.read_parquet(root / "workspace" / "curation" / "curated.parquet")
    assert len(table) == 4
    (adapter,) = (root / "workspace" / "adapters").iterdir()
    assert len((adapter / "training" / "log.jsonl").read_text().splitlines()) == 1
