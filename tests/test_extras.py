"""Optional packages: a missing one is named with its extra, and a scene folder does without a Rerun recording."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from fourdnex import extras
from fourdnex.cli import main
from fourdnex.datasets.worlds import render_world
from fourdnex.export import export_rerun
from fourdnex.generation import scene_folders
from fourdnex.scene import Scene4D

WITHOUT = """
import sys
for module in {modules!r}:
    sys.modules[module] = None
from fourdnex.cli import main
sys.exit(main({arguments!r}))
"""


def run_without(modules: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process in which `modules` cannot be imported."""
    code = WITHOUT.format(modules=modules, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def scene():
    clip = render_world(3, num_frames=3, height=32, width=48)
    return Scene4D(rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world)


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        (
            ["mlflow"],
            ["generate", "images", "scenes"],
            "needs mlflow: pip install 'fourdnex[graph]', or pass --adapter",
        ),
        (["pandas"], ["annotate", "--data", "data"], "needs pandas: pip install 'fourdnex[train]'"),
        (["pandas"], ["train", "--output", "adapter"], "this command needs pandas: pip install 'fourdnex[train]'"),
    ],
)
def test_a_command_names_the_extra_in_one_line(missing, arguments, message):
    run = run_without(missing, *arguments)
    assert run.returncode == 2
    assert message in run.stderr and len(run.stderr.splitlines()) == 1


def test_import_errors_of_other_modules_are_raised(monkeypatch):
    assert extras.explain(ModuleNotFoundError("No module named 'x'", name="x")) is None
    assert extras.explain(ImportError("cannot import name", name="mlflow")) is None
    assert "fourdnex[graph]" in str(extras.explain(ModuleNotFoundError("", name="mlflow.entities")))


def test_a_folder_without_modules_is_not_an_installed_package(tmp_path, monkeypatch):
    """In a checkout without mlflow, the configuration folder mlflow/ can be imported as a namespace package."""
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not extras.is_installed("only_a_folder")
    assert extras.is_installed("json") and not extras.is_installed("not_there")


def test_export_of_a_recording_needs_rerun(tmp_path, scene, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(extras.MissingExtraError, match=r"Rerun recording needs rerun-sdk.*fourdnex\[export\]"):
        export_rerun(scene, tmp_path / "scene.rrd")
    scene.save(tmp_path / "scene")
    assert main(["export", str(tmp_path / "scene"), str(tmp_path / "out.rrd"), "--to", "rerun"]) == 2
    assert "fourdnex[export]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "scene"]


def test_scene_folders_without_rerun_have_no_recording_and_one_note(tmp_path, scene, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "rerun", None)
    scene_folders._note_missing_rerun.cache_clear()
    with caplog.at_level(logging.INFO, logger="fourdnex"):
        for name in ("a", "b"):
            scene_folders.write_scene_folder(scene, tmp_path / name)
    assert not (tmp_path / "a" / "scene.rrd").exists()
    assert np.array_equal(Scene4D.load(tmp_path / "b").rgb, scene.rgb)
    assert [record.getMessage() for record in caplog.records if "scene.rrd" in record.getMessage()] == [
        "scene.rrd is not written: a Rerun recording needs rerun-sdk: pip install 'fourdnex[export]'"
    ]
