import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from fourdnex.io.files import (
    atomic_dir,
    atomic_path,
    check_replaceable_folder,
    read_json,
    sha256_file,
    sha256_tree,
    write_json,
    write_tensors,
)


def test_failed_write_keeps_the_old_file_and_removes_the_temporary(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_file_has_the_suffix_and_folder_of_the_target(tmp_path):
    with atomic_path(tmp_path / "new" / "a.mkv") as temporary:
        assert temporary.suffix == ".mkv" and temporary.parent == tmp_path / "new"
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "a.mkv").read_bytes() == b"x"


def test_only_a_folder_of_the_same_kind_may_be_replaced(tmp_path):
    def check() -> None:
        check_replaceable_folder(tmp_path / "base", "a base", marker="index.json", leftovers=("log",))

    check()
    (tmp_path / "base" / "log").mkdir(parents=True)
    check()
    (tmp_path / "base" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="base: expected nothing, an empty folder or a base to replace"):
        check()
    (tmp_path / "base" / "index.json").write_text("{}")
    check()


def test_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "scene"
    for name in ("first", "second"):
        with atomic_dir(target) as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    with pytest.raises(RuntimeError), atomic_dir(target) as temporary:
        (temporary / "third").write_text("")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_the_longest_file_names_can_be_written(tmp_path):
    for name in ("景" * 80 + ".npz", "a" + "景" * 80 + ".npz", "a" * 251 + ".npz"):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).read_text() == "new"


KILLED = """
import os, signal, sys
from fourdnex.io.files import atomic_dir, atomic_path

def die(*moved):
    if moved:
        replace(*moved)
    os.kill(os.getpid(), signal.SIGKILL)

how, target = sys.argv[1:]
replace = os.replace
with (atomic_path if how == "file" else atomic_dir)(target) as temporary:
    if how == "file":
        temporary.touch()
    else:
        (temporary / "second").touch()
    if how == "between":
        os.replace = die  # the old folder is moved aside, the new one is not in its place yet
    else:
        die()
"""


@pytest.mark.parametrize("how", ["file", "folder", "between"])
def test_the_next_writer_cleans_up_after_a_killed_process(tmp_path, how):
    target, other = tmp_path / "a scene [1]", tmp_path / "a scene"
    for folder in (target, other):
        folder.mkdir()
        (folder / "first").touch()
    ended = subprocess.run([sys.executable, "-c", KILLED, how, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    assert target.exists() == (how != "between")
    with pytest.raises(KeyError), (atomic_path if how == "file" else atomic_dir)(target):
        raise KeyError
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a scene",
        "a scene [1]",
        "a scene [1]/first",
        "a scene/first",
    ]


def test_os_errors_name_the_target_file(tmp_path):
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{tmp_path / 'a.bin'}'")):
        with atomic_path(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError) as caught, atomic_dir(tmp_path / "scene") as temporary:
        (temporary / "ply" / "0.ply").write_text("its folder is missing")
    assert caught.value.filename == str(tmp_path / "scene" / "ply" / "0.ply")
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "b.bin"):
        (tmp_path / "another").read_text()
    assert caught.value.filename == str(tmp_path / "another")
    assert not list(tmp_path.iterdir())


def test_tensor_files_have_default_permissions(tmp_path):
    import torch
    from safetensors import safe_open

    (tmp_path / "plain").touch()
    write_tensors(tmp_path / "a.safetensors", {"x": torch.arange(6).reshape(2, 3)}, {"made": "here"})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"made": "here"} and file.get_tensor("x").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_json_round_trip_and_bad_json_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 2.5], "a": "é"})
    assert read_json(path) == {"b": [1, 2.5], "a": "é"}
    path.write_text("{")
    with pytest.raises(ValueError, match=r"a\.json"):
        read_json(path)
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # The SHA-256 example of FIPS 180.
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    before = sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_tree(tmp_path) != before, "names are part of the digest"
    with pytest.raises(FileNotFoundError):
        sha256_tree(tmp_path / "none")
