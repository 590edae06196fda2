"""Two passes over one collection at once: real processes, which share the images."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fourdnex.generation.collections import generate_collection
from fourdnex.generation.scene_locks import SceneLocks

PASS = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
import fourdnex.generation.scenes
from fourdnex.generation.collections import generate_collection
images, out, base, ready, go = sys.argv[1:]
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.01)
report = generate_collection(images, out, model=base, num_inference_steps=1, batch_size=1)
print(json.dumps(asdict(report)))
"""
HOLD = """
import sys, time
from fourdnex.generation.scene_locks import SceneLocks
claims = SceneLocks(sys.argv[1])
assert claims.acquire("a")
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcde":
        noise = np.random.default_rng(ord(name)).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    (folder / "text.jpg").write_text("no image")
    return folder


@pytest.mark.slow
def test_two_passes_at_once_make_every_scene_once(images, tmp_path, random_base):
    out, go = tmp_path / "out", tmp_path / "go"
    passes = []
    for number in range(2):
        arguments = [str(images), str(out), str(random_base), str(tmp_path / f"ready{number}"), str(go)]
        passes.append(subprocess.Popen([sys.executable, "-c", PASS, *arguments], stdout=subprocess.PIPE, text=True))
    while not all((tmp_path / f"ready{number}").exists() for number in range(2)):
        assert all(process.poll() is None for process in passes)
        time.sleep(0.05)
    go.touch()
    reports = [json.loads(process.communicate()[0].splitlines()[-1]) for process in passes]
    assert [process.returncode for process in passes] == [0, 0]
    assert sum(report["done"] for report in reports) == 5
    for report in reports:
        assert (report["requested"], report["done"] + report["cached"]) == (6, 5)
        assert [file for file, _ in report["failed"]] == ["text.jpg"]
    names = ["a", "b", "c", "collection.json", "d", "e", "failed.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(json.loads((out / "collection.json").read_text())["images"]) == 6


def test_what_a_killed_process_had_claimed_is_free(images, tmp_path, random_base):
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "taken\n"
        with SceneLocks(out) as claims:
            assert not claims.acquire("a") and claims.acquire("b")
        os.kill(holder.pid, signal.SIGKILL)
    assert generate_collection(images, out, model=str(random_base), num_inference_steps=1).done == 5
    assert not list(out.glob(".*"))


def test_a_claim_is_one_of_its_folder_and_goes_with_its_context(tmp_path):
    with SceneLocks(tmp_path) as first, SceneLocks(tmp_path) as second:
        assert first.acquire("a") and not second.acquire("a") and second.acquire("b")
        first.release("a")
        assert second.acquire("a", wait=True)
    assert not list(tmp_path.iterdir())
