"""Output paths of all formats, and what remains after an error."""

import subprocess
import sys
from pathlib import Path

import pytest

from fourdnex.export import EXPORTERS, ExportOptions

SUFFIXES = {"rerun": ".rrd", "usd": ".usdc", "npz": ".npz"}
FOLDERS = ["ply", "glb", "colmap", "nerfstudio"]
NAMES = [name for name in EXPORTERS if name != "usd"]  # usd-core may not be installed; test_usd.py covers it


def target(folder: Path, format_name: str, stem: str = "out") -> Path:
    return folder / (stem + SUFFIXES.get(format_name, ""))


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format_name", NAMES)
def test_special_characters_and_new_parent_folders(format_name, scene, tmp_path):
    (tmp_path / "x").mkdir()
    path = target(tmp_path / "x" / ".." / "neue Ordner" / "...", format_name, "Bär & Söhne 100% [1]")
    EXPORTERS[format_name](scene, path, ExportOptions())
    assert path.exists()
    assert [entry.name for entry in (tmp_path / "neue Ordner" / "...").iterdir()] == [path.name]


@pytest.mark.parametrize("format_name", FOLDERS)
def test_folder_of_the_same_format_is_replaced(format_name, scene, tmp_path):
    from dataclasses import replace

    path = tmp_path / "out"
    EXPORTERS[format_name](scene, path, ExportOptions())
    assert any("0002" in name for name in files(path))
    shorter = replace(scene, **{n: getattr(scene, n)[:2] for n in ("rgb", "depth", "camera_to_world", "confidence")})
    EXPORTERS[format_name](shorter, path, ExportOptions())
    names = set(files(path))
    assert any("0001" in name for name in names) and not any("0002" in name for name in names)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("format_name", FOLDERS)
@pytest.mark.parametrize("foreign", ["notes.txt", "images/mine.png", "frame_0000.ply/x", "deeper/frame_0000.ply"])
def test_folder_with_other_files_is_not_changed(format_name, foreign, scene, tmp_path):
    (tmp_path / "out" / foreign).parent.mkdir(parents=True)
    (tmp_path / "out" / foreign).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {foreign}"):
        EXPORTERS[format_name](scene, tmp_path / "out", ExportOptions())
    assert files(tmp_path) == {f"out/{foreign}": b"mine"}


def test_empty_folder_is_replaced_unless_it_has_subfolders(scene, tmp_path):
    (tmp_path / "out").mkdir()
    EXPORTERS["ply"](scene, tmp_path / "out", ExportOptions())
    (tmp_path / "out" / "mine").mkdir()
    with pytest.raises(FileExistsError, match="holds mine/"):
        EXPORTERS["ply"](scene, tmp_path / "out", ExportOptions())


def test_folder_of_another_format_or_scene_is_not_changed(scene, tmp_path):
    scene.save(tmp_path / "scene")
    EXPORTERS["colmap"](scene, tmp_path / "colmap", ExportOptions())
    before = files(tmp_path)
    for name in ("scene", "colmap"):
        with pytest.raises(FileExistsError, match="earlier export of this format, but it holds"):
            EXPORTERS["nerfstudio"](scene, tmp_path / name, ExportOptions())
    assert files(tmp_path) == before


@pytest.mark.parametrize("format_name", FOLDERS)
def test_folder_format_rejects_an_existing_file(format_name, scene, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a folder or a new path, got a file"):
        EXPORTERS[format_name](scene, tmp_path / "out", ExportOptions())
    assert files(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("name", [".", "..", "below/.."])
def test_working_directory_is_never_replaced(name, scene, tmp_path, monkeypatch):
    (tmp_path / "work" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ValueError, match="working directory"):
        EXPORTERS["ply"](scene, name, ExportOptions())
    assert files(tmp_path) == {}


def test_link_to_a_folder_is_kept(scene, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    EXPORTERS["ply"](scene, tmp_path / "here", ExportOptions())
    assert (tmp_path / "here").is_symlink() and len(list((tmp_path / "there").iterdir())) == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["here", "there"]


@pytest.mark.parametrize("format_name", SUFFIXES)
def test_file_format_requires_its_suffix_and_rejects_a_folder(format_name, scene, tmp_path):
    for name in ("out", "out.ply", "out.json"):
        with pytest.raises(ValueError, match=f"expected a file name ending in {SUFFIXES[format_name]}"):
            EXPORTERS[format_name](scene, tmp_path / name, ExportOptions())
    path = target(tmp_path, format_name)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="expected a file or a new path, got a folder"):
        EXPORTERS[format_name](scene, path, ExportOptions())
    assert list(tmp_path.iterdir()) == [path] and not list(path.iterdir())


@pytest.mark.parametrize("format_name", FOLDERS)
def test_folder_format_rejects_a_file_name(format_name, scene, tmp_path):
    with pytest.raises(ValueError, match="expected a folder for this format, got the file name"):
        EXPORTERS[format_name](scene, tmp_path / "cloud.ply", ExportOptions())
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
from fourdnex.export import EXPORTERS, ExportOptions
from fourdnex.scene import Scene4D
scene, path, formats = Scene4D.load(sys.argv[1]), sys.argv[2], sys.argv[3:]
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # limits files to 600 bytes, like a full disk
for format_name, name in zip(formats[::2], formats[1::2]):
    try:
        EXPORTERS[format_name](scene, f"{path}/{name}", ExportOptions())
    except OSError as error:
        print(format_name, type(error).__name__)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process limits are POSIX")
def test_full_disk_raises_and_keeps_existing_files(scene, tmp_path):
    scene.save(tmp_path / "scene")
    formats = ["ply", "glb", "colmap", "nerfstudio", "rerun", "npz"]
    try:
        import pxr  # noqa: F401

        formats.append("usd")
    except ModuleNotFoundError:
        pass
    out = tmp_path / "out"
    for format_name in formats:
        EXPORTERS[format_name](scene, target(out, format_name, format_name), ExportOptions())
    before = files(out)
    pairs = [word for format_name in formats for word in (format_name, target(out, format_name, format_name).name)]
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "scene"), str(out), *pairs]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()] == formats, ran.stdout + ran.stderr
    assert files(out) == before
