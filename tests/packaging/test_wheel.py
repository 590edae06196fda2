"""The wheel, installed without extras into an empty environment, works outside the repository.

Only the standard library and pytest are imported, so that continuous integration runs this file on its own:
`python -m pytest -m slow tests/packaging --noconftest`.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


class InstalledWheel:
    """An environment with nothing but the wheel and its base dependencies, an empty home and an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.environment, self.home, self.work = folder / "environment", folder / "home", folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        wheels = folder / "wheels"
        self._pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
        (self.wheel,) = wheels.glob("fourdnex-*.whl")
        venv.create(self.environment, with_pip=True)
        self.python = self.environment / "bin" / "python"
        self._pip(self.python, "install", "--constraint", ROOT / "constraints.txt", self.wheel)
        (self.site_packages,) = self.environment.glob("lib/python*/site-packages")

    def _pip(self, python: str | Path, *arguments: object) -> None:
        command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=self.home)
        assert done.returncode == 0, done.stderr

    def run(self, *command: object, status: int = 0) -> str:
        """Run a program of the environment in the empty folder; returns its output, stderr included."""
        variables = {"HOME": str(self.home), "PATH": os.environ["PATH"], "TMPDIR": str(self.home)}
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.work,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of every file in site-packages."""
        found = ((path, path.stat()) for path in self.site_packages.rglob("*") if path.is_file())
        return {str(path): (status.st_size, status.st_mtime_ns) for path, status in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> InstalledWheel:
    return InstalledWheel(tmp_path_factory.mktemp("wheel"))


def test_a_photograph_becomes_a_scene_that_can_be_viewed_and_exported(installed):
    before = installed.files()
    photograph = shutil.copy(ROOT / "examples" / "photographs" / "coffee.jpg", installed.work)
    steps = ("--num-inference-steps", 2)
    said = installed.run("fourdnex", "generate", photograph, "scenes/coffee", "--adapter", "none", *steps)
    assert said.count("pip install 'fourdnex[export]'") == 1  # no Rerun recording, noted once
    installed.run("fourdnex", "view", "scenes/coffee", "--html", "coffee.html")
    installed.run("fourdnex", "export", "scenes/coffee", "glb", "--to", "glb")
    installed.run("fourdnex", "doctor")
    scene = installed.work / "scenes" / "coffee"
    assert {"scene.json", "rgb.mkv", "depth.mkv", "preview.png"} <= {path.name for path in scene.iterdir()}
    assert (installed.work / "coffee.html").stat().st_size > 100_000
    assert list((installed.work / "glb").glob("*.glb"))
    assert installed.files() == before
    assert sorted(path.name for path in installed.work.iterdir()) == ["coffee.html", "coffee.jpg", "glb", "scenes"]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("generate", "images", "scenes"), "graph"),
        (("annotate", "--data", "data"), "train"),
        (("train", "--output", "adapter"), "train"),
    ],
)
def test_commands_of_extras_name_them(installed, arguments, extra):
    said = installed.run("fourdnex", *arguments, status=2)
    assert f"pip install 'fourdnex[{extra}]'" in said and len(said.splitlines()) == 1


def test_only_the_library_and_its_base_dependencies_are_installed(installed):
    modules = ("orchestration", "benchmarks", "tests", "dagster", "mlflow", "dvc", "pycolmap", "rerun", "pandas")
    code = f"from importlib.util import find_spec; print([name for name in {modules} if find_spec(name)])"
    assert installed.run("python", "-c", code).strip() == "[]"
    assert (installed.site_packages / "fourdnex" / "py.typed").is_file()


def test_models_are_package_data_and_the_workspace_is_in_the_current_folder(installed):
    code = (
        "from fourdnex.pretrained import pretrained; from fourdnex.workspace import Workspace; "
        "from fourdnex.identity import collect, repository_root; "
        "print(pretrained('fourdnex-tiny'), Workspace.default().root, repository_root(), collect()['git_commit'])"
    )
    models = installed.site_packages / "fourdnex" / "pretrained_models" / "fourdnex-tiny"
    said = installed.run("python", "-c", code).split()
    assert said == [str(models), str(installed.work / "workspace"), str(installed.work), "None"]
