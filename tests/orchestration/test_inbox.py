import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest

from orchestration.inbox import contents_digest, images_of, scan


def collection(inbox: Path, name: str, *files: str) -> Path:
    folder = inbox / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"image")
    return folder


def scan_now(inbox: Path):
    found = scan(inbox, settle_seconds=0)
    return [ready.name for ready in found.ready], dict(found.waiting)


def test_a_missing_inbox_counts_as_empty(tmp_path):
    assert scan_now(tmp_path / "inbox") == ([], {})


def test_folders_with_files_are_ready_and_empty_ones_wait(tmp_path):
    collection(tmp_path, "kitchen", "a.jpg")
    collection(tmp_path, "empty")
    collection(tmp_path, "only hidden", ".DS_Store")
    collection(tmp_path, ".hidden", "a.jpg")
    (tmp_path / "stray.jpg").write_bytes(b"x")
    ready, waiting = scan_now(tmp_path)
    assert ready == ["kitchen"]
    assert waiting == {"empty": "no images in this folder", "only hidden": "no images in this folder"}


def test_a_folder_that_is_still_being_copied_waits(tmp_path):
    collection(tmp_path, "kitchen", "a.jpg")
    found = scan(tmp_path, settle_seconds=3600)
    assert not found.ready
    assert "changed less than 3600 seconds ago" in dict(found.waiting)["kitchen"]


def test_broken_links_do_not_prevent_a_collection_from_being_ready(tmp_path):
    """They count as images that cannot be read, which generation reports."""
    folder = collection(tmp_path, "kitchen", "a.jpg")
    before = contents_digest(folder)
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (collection(tmp_path, "garden") / "long.jpg").symlink_to("x" * 300)
    assert scan_now(tmp_path) == (["garden", "kitchen"], {})
    assert contents_digest(folder) != before


def test_images_in_subfolders_are_reported(tmp_path):
    collection(tmp_path, "trip/day 1", "a.jpg", "b.PNG", "notes.txt")
    ready, waiting = scan_now(tmp_path)
    reason = "no images in this folder, but 2 in subfolders: put each subfolder into the inbox"
    assert (ready, waiting) == ([], {"trip": reason})


@pytest.mark.skipif(sys.platform == "darwin", reason="needs a file system that distinguishes these names")
def test_collections_with_equivalent_names_all_wait(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    for name in ("Kitchen", "kitchen", composed, decomposed, "garden"):
        collection(tmp_path, name, "a.jpg")
    ready, waiting = scan_now(tmp_path)
    assert ready == ["garden"]
    assert set(waiting) == {"Kitchen", "kitchen", composed, decomposed}
    assert waiting["kitchen"] == "names that differ only by case or Unicode form: kitchen, Kitchen: rename one"


@pytest.mark.parametrize("name", ["a,b", "a...b", "line\nbreak", " space"])
def test_names_that_cannot_be_partitions_wait_with_the_reason(tmp_path, name):
    collection(tmp_path, name, "a.jpg")
    ready, waiting = scan_now(tmp_path)
    assert ready == []
    assert "rename it" in waiting[name]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system accepts only UTF-8")
def test_names_that_are_not_utf8_wait_with_the_reason(tmp_path):
    folder = collection(tmp_path, "kitchen", os.fsdecode(b"caf\xe9.jpg"))
    collection(tmp_path, os.fsdecode(b"caf\xe9"), "a.jpg")
    ready, waiting = scan_now(tmp_path)
    assert ready == ["kitchen"]
    assert "rename it" in waiting["caf\\xe9"]
    before = contents_digest(folder)
    (folder / os.fsdecode(b"caf\xe8.jpg")).write_bytes(b"image")
    assert contents_digest(folder) != before


def test_the_digest_changes_only_with_the_images(tmp_path):
    folder = collection(tmp_path, "kitchen", "a.jpg")
    before = contents_digest(folder)
    (folder / ".DS_Store").write_bytes(b"x")
    assert contents_digest(folder) == before
    shutil.copy2(folder / "a.jpg", folder / "b.jpg")
    assert contents_digest(folder) != before


def test_the_digest_changes_with_the_captions(tmp_path):
    folder = collection(tmp_path, "kitchen", "a.jpg")
    before = contents_digest(folder)
    (folder / "a.txt").write_text("A cat")
    beside = contents_digest(folder)
    (folder / "captions.csv").write_text("image,prompt\n")
    assert len({before, beside, contents_digest(folder)}) == 3
    assert [path.name for path in images_of(folder)] == ["a.jpg"]
