"""Where every format may write, and what it leaves when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from fourdnex.export import EXPORTERS, ExportOptions

SUFFIXES = {"rerun": ".rrd", "usd": ".usdc", "npz": ".npz"}
FOLDERS = ["ply", "glb", "colmap", "nerfstudio"]
NAMES = [name for name in EXPORTERS if name != "usd"]  # usd has its own module of tests, and may not be installed


def target(folder: Path, kind: str, stem: str = "out") -> Path:
    return folder / (stem + SUFFIXES.get(kind, ""))


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", NAMES)
def test_names_with_spaces_and_umlauts_and_a_new_parent(kind, scene, tmp_path):
    (tmp_path / "x").mkdir()
    path = target(tmp_path / "x" / ".." / "neue Ordner" / "...", kind, "Bär & Söhne 100% [1]")
    EXPORTERS[kind](scene, path, ExportOptions())
    assert path.exists()
    assert [entry.name for entry in (tmp_path / "neue Ordner" / "...").iterdir()] == [path.name]


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_the_same_format_is_replaced(kind, scene, tmp_path):
    from dataclasses import replace

    path = tmp_path / "out"
    EXPORTERS[kind](scene, path, ExportOptions())
    assert any("0002" in name for name in files(path))
    shorter = replace(scene, **{n: getattr(scene, n)[:2] for n in ("rgb", "depth", "camera_to_world", "confidence")})
    EXPORTERS[kind](shorter, path, ExportOptions())
    names = set(files(path))
    assert any("0001" in name for name in names) and not any("0002" in name for name in names)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("foreign", ["notes.txt", "images/mine.png", "frame_0000.ply/x", "deeper/frame_0000.ply"])
def test_a_folder_with_other_things_is_left_alone(kind, foreign, scene, tmp_path):
    (tmp_path / "out" / foreign).parent.mkdir(parents=True)
    (tmp_path / "out" / foreign).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {foreign}"):
        EXPORTERS[kind](scene, tmp_path / "out", ExportOptions())
    assert files(tmp_path) == {f"out/{foreign}": b"mine"}


def test_an_empty_folder_is_taken_and_empty_folders_in_it_are_not(scene, tmp_path):
    (tmp_path / "out").mkdir()
    EXPORTERS["ply"](scene, tmp_path / "out", ExportOptions())
    (tmp_path / "out" / "mine").mkdir()
    with pytest.raises(FileExistsError, match="holds mine/"):
        EXPORTERS["ply"](scene, tmp_path / "out", ExportOptions())


def test_another_formats_folder_and_a_saved_scene_are_left_alone(scene, tmp_path):
    scene.save(tmp_path / "scene")
    EXPORTERS["colmap"](scene, tmp_path / "colmap", ExportOptions())
    before = files(tmp_path)
    for name in ("scene", "colmap"):
        with pytest.raises(FileExistsError, match="earlier export of this format, but it holds"):
            EXPORTERS["nerfstudio"](scene, tmp_path / name, ExportOptions())
    assert files(tmp_path) == before


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_file_in_the_way_of_a_folder(kind, scene, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a folder or nothing, got a file"):
        EXPORTERS[kind](scene, tmp_path / "out", ExportOptions())
    assert files(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("name", [".", "..", "below/.."])
def test_the_working_folder_is_never_replaced(name, scene, tmp_path, monkeypatch):
    (tmp_path / "work" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ValueError, match="working folder"):
        EXPORTERS["ply"](scene, name, ExportOptions())
    assert files(tmp_path) == {}


def test_a_link_to_a_folder_stays_a_link(scene, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    EXPORTERS["ply"](scene, tmp_path / "here", ExportOptions())
    assert (tmp_path / "here").is_symlink() and len(list((tmp_path / "there").iterdir())) == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["here", "there"]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_file_format_wants_its_suffix_and_no_folder(kind, scene, tmp_path):
    for name in ("out", "out.ply", "out.json"):
        with pytest.raises(ValueError, match=f"expected a name that ends in {SUFFIXES[kind]}"):
            EXPORTERS[kind](scene, tmp_path / name, ExportOptions())
    path = target(tmp_path, kind)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="expected a file or nothing, got a folder"):
        EXPORTERS[kind](scene, path, ExportOptions())
    assert list(tmp_path.iterdir()) == [path] and not list(path.iterdir())


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_format_wants_no_file_name(kind, scene, tmp_path):
    with pytest.raises(ValueError, match="expected a folder for this format, got the file name"):
        EXPORTERS[kind](scene, tmp_path / "cloud.ply", ExportOptions())
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
from fourdnex.export import EXPORTERS, ExportOptions
from fourdnex.scene import Scene4D
scene, path, kinds = Scene4D.load(sys.argv[1]), sys.argv[2], sys.argv[3:]
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # every file ends after 600 bytes, as on a disk that is full
for kind, name in zip(kinds[::2], kinds[1::2]):
    try:
        EXPORTERS[kind](scene, f"{path}/{name}", ExportOptions())
    except OSError as error:
        print(kind, type(error).__name__)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_full_disk_is_an_error_that_leaves_what_was_there(scene, tmp_path):
    scene.save(tmp_path / "scene")
    kinds = ["ply", "glb", "colmap", "nerfstudio", "rerun", "npz"]
    try:
        import pxr  # noqa: F401

        kinds.append("usd")
    except ModuleNotFoundError:
        pass
    out = tmp_path / "out"
    for kind in kinds:
        EXPORTERS[kind](scene, target(out, kind, kind), ExportOptions())
    before = files(out)
    pairs = [word for kind in kinds for word in (kind, target(out, kind, kind).name)]
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "scene"), str(out), *pairs]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()] == kinds, ran.stdout + ran.stderr
    assert files(out) == before
