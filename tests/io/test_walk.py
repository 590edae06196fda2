"""What lies below a folder: nothing is passed over in silence, and no link leads in circles."""

import os

import pytest

from fourdnex.io.walk import unreadable_reason, walk


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for file in ("b.txt", "a/d.txt", "a/c/e.txt", ".hidden/f.txt", "out/g.txt"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("")
    return root


def paths(root, **settings):
    return [path.relative_to(root).as_posix() for path in walk(root, **settings)]


def test_files_are_sorted_by_path(folder):
    assert paths(folder) == ["a/c/e.txt", "a/d.txt", "b.txt", "out/g.txt"]
    assert paths(folder, recursive=False) == ["b.txt"]
    assert paths(folder, exclude=folder / "out", include=lambda name: name != "d.txt") == [
        ".hidden/f.txt", "a/c/e.txt", "b.txt",
    ]  # fmt: skip


def test_links_to_folders_are_followed_once(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "h.txt").write_text("")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "same").symlink_to(tmp_path / "elsewhere")
    assert paths(folder) == ["a/c/e.txt", "a/d.txt", "b.txt", "link/h.txt", "out/g.txt"]


def test_reasons_of_unreadable_files(folder):
    (folder / "gone").symlink_to("nowhere")
    (folder / "long").symlink_to("x" * 300)
    os.mkfifo(folder / "pipe")
    reasons = {path.name: unreadable_reason(path) for path in walk(folder, recursive=False)}
    assert reasons == {
        "b.txt": None,
        "gone": "broken link to nowhere",
        "long": "broken link to " + "x" * 300,
        "pipe": "expected a regular file, got a pipe, socket or device",
    }
    assert unreadable_reason(folder / "none") == "cannot be read: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folders_are_listed_with_their_reason(folder):
    (folder / "a").chmod(0)
    assert paths(folder) == ["a", "b.txt", "out/g.txt"]
    assert unreadable_reason(folder / "a") == "folder cannot be read"
    (folder / "a").chmod(0o700)
