"""Annotators by name: built-in ones, and those of packages that are installed for the test."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from fourdnex.annotation import ExactAnnotator, PluginError, create_annotator, list_annotators
from fourdnex.annotation.registry import BUILT_IN
from fourdnex.cli import main
from fourdnex.datasets.annotated import read_annotated_table
from fourdnex.datasets.manifest import write_manifest
from fourdnex.datasets.shards import write_shard
from fourdnex.datasets.worlds import render_world
from fourdnex.extras import MissingExtraError

CODE = """
from dataclasses import replace
import numpy as np
from fourdnex.annotation import AnnotationError, ClipAnnotator

class Plane(ClipAnnotator):
    name, version, license, needs = "plane", "3", "MIT", ()

    def __init__(self, *, distance=2.0):
        self.distance = distance

    def annotate(self, clip):
        if clip.num_frames > 5:
            raise AnnotationError("a plane is never that long")
        side = max(clip.height, clip.width)
        camera = np.array([[side, 0, clip.width / 2], [0, side, clip.height / 2], [0, 0, 1]], np.float32)
        depth = np.full(clip.rgb.shape[:3], self.distance, np.float32)
        poses = np.tile(np.eye(4, dtype=np.float32), (clip.num_frames, 1, 1))
        return replace(clip, annotator=self.name, depth=depth, intrinsics=camera, camera_to_world=poses)
"""


def install(folder: Path, code: str, points: str, package: str = "flat-earth") -> None:
    """Install a package of one module, as pip would."""
    module = package.replace("-", "_")
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fourdnex.annotators]\n{points}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages on the path, and no trace of its modules afterwards."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_plugin_annotates_a_shard(site, tmp_path, capsys):
    install(site, CODE, "plane = flat_earth:Plane")
    clips = [render_world(100_000 + i, num_frames=n, height=32, width=48) for i, n in enumerate((5, 9))]
    write_manifest(tmp_path / "data", write_shard(tmp_path / "data", "a", clips))
    arguments = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--max-pixels", "384"]
    assert main(["annotate", "--annotator", "plane", *arguments]) == 0
    assert "1 done, 0 cached, 1 failed of 2" in capsys.readouterr().out
    table = read_annotated_table(tmp_path / "out", "a")
    assert table["annotator"].tolist() == ["plane"] * 2 and table["annotator_version"].tolist() == ["3"] * 2
    assert table["annotator_license"].tolist() == ["MIT"] * 2
    assert table["reason"].tolist() == ["", "a plane is never that long"]
    assert (table["height"][0], table["width"][0]) == (16, 24), "at most 384 pixels"


def test_plugins_are_listed(site, capsys):
    install(site, CODE, "plane = flat_earth:Plane")
    listed = {info.name: info for info in list_annotators()}
    assert [*listed] == [*BUILT_IN, "plane"]
    assert (listed["plane"].package, listed["plane"].version, listed["plane"].license) == ("flat-earth", "3", "MIT")
    assert listed["sfm"].needs == ("pycolmap",)
    assert main(["annotate", "--list-annotators"]) == 0
    assert "plane        version 3; MIT; from flat-earth" in capsys.readouterr().out.splitlines()
    assert main(["doctor"]) in (0, 1)
    assert "plane 3" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_known_ones(site):
    install(site, CODE, "plane = flat_earth:Plane")
    with pytest.raises(ValueError, match="annotator: expected one of depth, exact, imported, plane, sfm, got 'plain'"):
        create_annotator("plain")


def test_options_go_to_the_constructor(site):
    install(site, CODE, "plane = flat_earth:Plane")
    assert create_annotator("plane", distance=3.0).distance == 3.0
    assert create_annotator("plane", distance=None).distance == 2.0
    with pytest.raises(ValueError, match="annotator exact: takes no --distance"):
        create_annotator("exact", distance=3.0)
    assert isinstance(create_annotator("exact"), ExactAnnotator)


@pytest.mark.parametrize(
    ("code", "points", "reason"),
    [
        ("import nothing_of_that_name", "plane = flat_earth:Plane", "ModuleNotFoundError: No module named 'nothing"),
        (CODE, "plane = flat_earth:Missing", "AttributeError: .*Missing"),
        (CODE.replace('"MIT"', '""'), "plane = flat_earth:Plane", "license: expected a text, got ''"),
        (CODE.replace('"3"', "3"), "plane = flat_earth:Plane", "version: expected a text, got 3"),
        (CODE, "other = flat_earth:Plane", "name: expected 'other', as its entry point, got 'plane'"),
        (CODE.replace(", ()", ", 'cv2'"), "plane = flat_earth:Plane", "needs: expected a tuple of module names"),
        ("class Plane:\n  name, version, license, needs = 'plane', '1', 'MIT', ()", "plane = flat_earth:Plane",
         "annotate_video: expected a method, got none"),
        (CODE, "plane = flat_earth:replace", "expected a class, got function"),
    ],
)  # fmt: skip
def test_a_broken_plugin_names_its_package(site, code, points, reason):
    install(site, code, points)
    name = points.split()[0]
    with pytest.raises(PluginError, match=f"annotator {name} of the package flat-earth: .*{reason}"):
        create_annotator(name)
    (info,) = [info for info in list_annotators() if info.name == name]
    assert "flat-earth" in info.problem
    assert create_annotator("exact").name == "exact", "others are not affected"


def test_a_plugin_cannot_replace_another_annotator(site):
    install(site, CODE.replace('"plane"', '"exact"'), "exact = flat_earth:Plane")
    assert isinstance(create_annotator("exact"), ExactAnnotator)
    assert "built-in" in list_annotators()[-1].problem
    for package in ("first", "second"):
        install(site, CODE, f"plane = {package}:Plane", package)
    with pytest.raises(PluginError, match="plane: expected one package, got first, second"):
        create_annotator("plane")


def test_missing_modules_are_named(site):
    code = CODE.replace(", ()", ", ('no_module_of_this_name',)")
    install(site, code, "plane = flat_earth:Plane")
    with pytest.raises(PluginError, match="annotator plane: needs the module no_module_of_this_name"):
        create_annotator("plane")
    assert list_annotators()[-1].missing == ("no_module_of_this_name",)


def test_sfm_without_colmap_names_the_extra(tmp_path):
    """In a process that cannot import pycolmap."""
    code = (
        "import sys; from importlib.machinery import PathFinder\n"
        "class Hidden(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, *rest):\n"
        "        return None if name == 'pycolmap' else super().find_spec(name, *rest)\n"
        "sys.meta_path[:] = [each if each is not PathFinder else Hidden for each in sys.meta_path]\n"
        "from fourdnex.annotation import create_annotator, list_annotators\n"
        "print({info.name: info.missing for info in list_annotators()}['sfm'])\n"
        "create_annotator('sfm')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "('fourdnex[annotate]',)" in run.stdout
    expected = f"{MissingExtraError.__name__}: annotator sfm needs pycolmap: pip install 'fourdnex[annotate]'"
    assert expected in run.stderr


def test_options_that_exclude_each_other(tmp_path, capsys):
    assert main(["annotate", "--annotator", "sfm", "--imported", str(tmp_path)]) == 2
    assert "--imported: expected no --annotator beside it, got sfm" in capsys.readouterr().err


def test_max_pixels_is_positive(tmp_path, capsys):
    clips = [render_world(100_000, num_frames=5, height=32, width=48)]
    write_manifest(tmp_path, write_shard(tmp_path, "a", clips))
    assert main(["annotate", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--max-pixels", "0"]) == 2
    assert "max_pixels: expected at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["exact", "sfm", "depth"])
def test_annotators_can_be_sent_to_worker_processes(name):
    annotator = create_annotator(name)
    assert pickle.loads(pickle.dumps(annotator)).version == annotator.version
