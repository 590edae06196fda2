import pytest

from fourdnex.files import atomic_dir, atomic_path, read_json, sha256_file, sha256_tree, write_json


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_name_keeps_the_suffix_and_stays_beside(tmp_path):
    with atomic_path(tmp_path / "new" / "a.mkv") as temporary:
        assert temporary.suffix == ".mkv" and temporary.parent == tmp_path / "new"
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "a.mkv").read_bytes() == b"x"


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
    assert sha256_tree(tmp_path) != before, "names count"
    with pytest.raises(FileNotFoundError):
        sha256_tree(tmp_path / "none")
