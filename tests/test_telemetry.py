"""No network connections, and no files outside the given folders and the documented caches."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdnex.telemetry import OPT_OUT_VARIABLES

ROOT = Path(__file__).resolve().parents[1]

# Caches below the home folder that docs/install.md documents under "Files that are written".
DOCUMENTED = {".cache/fourdnex", ".cache/matplotlib", ".config/matplotlib"}

RECORDER = """
import os, socket

def record(what):
    with open(os.environ["RECORDED_CONNECTIONS"], "a") as log:
        log.write(f"{what}\\n")

def is_remote(host):
    return not str(host).startswith(("127.", "::1", "localhost")) and host not in (None, "", b"")

lookup, connect = socket.getaddrinfo, socket.socket.connect

def recorded_lookup(host, *arguments, **options):
    if is_remote(host):
        record(f"look up {host}")
    return lookup(host, *arguments, **options)

def recorded_connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and is_remote(address[0]):
        record(f"connect to {address}")
    return connect(self, address)

socket.getaddrinfo, socket.socket.connect = recorded_lookup, recorded_connect
"""


class EmptyHome:
    """Runs commands as a new user: empty home folder, no environment variables, empty temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.temporary, self.work = (folder / name for name in ("home", "temporary", "work"))
        for created in (self.home, self.temporary, self.work, folder / "recorder"):
            created.mkdir()
        (folder / "recorder" / "sitecustomize.py").write_text(RECORDER)
        self.connections = folder / "connections"
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(folder / "recorder"), str(ROOT)]),
            "RECORDED_CONNECTIONS": str(self.connections),
            "TMPDIR": str(self.temporary),
        }

    def run(self, *arguments: object, allowed: tuple[int, ...] = (0,)) -> str:
        command = [sys.executable, *map(str, arguments)]
        answer = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode in allowed, f"{' '.join(command)}\n{answer.stdout}\n{answer.stderr}"
        return answer.stdout

    def undocumented(self) -> list[str]:
        """Files in the home folder outside the documented caches, and in the temporary folder. Empty folders do not
        count."""
        found = [path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file()]
        left = [f"temporary/{path.name}" for path in self.temporary.rglob("*") if path.is_file()]
        return [name for name in found if not any(name.startswith(f"{cache}/") for cache in DOCUMENTED)] + left

    def remote_connections(self) -> str:
        return self.connections.read_text() if self.connections.exists() else ""


@pytest.fixture
def empty_home(tmp_path) -> EmptyHome:
    return EmptyHome(tmp_path)


@pytest.mark.parametrize("package", ["fourdnex", "orchestration"])
def test_importing_the_package_disables_telemetry_here_and_in_child_processes(empty_home, package):
    code = f"import {package}, os; print(sorted((name, os.environ.get(name)) for name in {sorted(OPT_OUT_VARIABLES)}))"
    assert empty_home.run("-c", code).strip() == str(sorted(OPT_OUT_VARIABLES.items()))


def test_a_variable_set_by_the_user_is_kept(empty_home):
    empty_home.environment["ORT_DISABLE_TELEMETRY"] = "0"
    assert empty_home.run("-c", "import fourdnex, os; print(os.environ['ORT_DISABLE_TELEMETRY'])").strip() == "0"


@pytest.mark.parametrize("given", [{}, {"ORT_DISABLE_TELEMETRY": "0"}])
def test_make_sets_the_same_variables(empty_home, given):
    result = subprocess.run(
        ["make", "--no-print-directory", "--file", ROOT / "Makefile", "--eval", "show: ; @env", "show"],
        env=empty_home.environment | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (OPT_OUT_VARIABLES | given).items() <= dict(
        line.split("=", 1) for line in result.stdout.splitlines()
    ).items()


def test_onnx_runtime_writes_nothing_to_the_home_folder(empty_home):
    """With telemetry, it writes a device id and an event queue to the home folder shortly after its import."""
    code = "import fourdnex, onnxruntime, time; time.sleep(3)"
    empty_home.run("-c", code)
    assert empty_home.undocumented() == []


def test_the_documentation_lists_every_cache():
    text = (ROOT / "docs" / "install.md").read_text()
    assert [cache for cache in sorted(DOCUMENTED) if f"~/{cache}" not in text] == []
    assert [name for name in OPT_OUT_VARIABLES if name not in text] == []


@pytest.mark.slow
def test_commands_write_only_their_output_and_documented_caches(empty_home, random_base):
    """The whole pipeline by commands, from worlds to scenes in every export format."""
    run = empty_home.run
    model = ("--model", random_base)
    images = empty_home.work / "images"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    run("-m", "fourdnex", "worlds", "worlds", "--num-worlds", 2)
    run("-m", "fourdnex", "annotate", "--data", "worlds")
    run("-m", "fourdnex", "curate")
    run("-m", "fourdnex", "encode", *model)
    run("-m", "fourdnex", "train", "--output", "adapter", *model, "--steps", 1, "--batch-size", 1)
    run("-m", "fourdnex", "evaluate", "--adapter", "adapter", "--out", "evaluation", *model, "--num-worlds", 1)
    run("-m", "fourdnex", "generate", "images", "scenes", "--adapter", "adapter", *model)
    scene = "scenes/noise"
    for target in ("ply", "scene.rrd", "scene.usdc", "glb", "colmap", "nerfstudio", "scene.npz"):
        kinds = {"scene.rrd": "rerun", "scene.usdc": "usd", "scene.npz": "npz"}
        run("-m", "fourdnex", "export", scene, f"exports/{target}", "--to", kinds.get(target, target))
    run("-m", "fourdnex", "render", scene, "swing.mp4", "--num-views", 2)
    run("-m", "fourdnex", "view", scene, "--html", "scene.html")
    run("-m", "fourdnex", "plan", "--model", "tiny", "--gpus", "1x24GB")
    run("-m", "fourdnex", "doctor", allowed=(0, 1))  # 1 where `data/` was not fetched
    run("-c", "import fourdnex; list(fourdnex.generate(['images/noise.png'], adapter=None))")
    assert empty_home.undocumented() == []
    assert empty_home.remote_connections() == ""
