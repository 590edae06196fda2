"""Data sets on disk: building, reading, and errors of corrupt or inconsistent files."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fourdnex.datasets.build import build_data
from fourdnex.datasets.debian_clips import _data_of_deb
from fourdnex.datasets.manifest import COLUMNS, DataError, list_shards, read_manifest, write_manifest
from fourdnex.datasets.shards import SourceShard
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, world_seed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "data"
    assert build_data(out, num_worlds=3, with_real=False) == 3
    return out


@pytest.fixture
def data(built, tmp_path) -> Path:
    """A copy of the data set that a test may modify."""
    return Path(shutil.copytree(built, tmp_path / "data"))


def test_clips_round_trip_with_their_metadata(built):
    manifest = read_manifest(built)
    assert list_shards(built) == ["worlds-0000"]
    assert manifest["name"].tolist() == ["world-000100000", "world-000100001", "world-000100002"]
    source = SourceShard(built, "worlds-0000")
    clips = [source.read(name) for name in source.names]
    assert [clip.name for clip in clips] == manifest["name"].tolist()
    assert clips[0].rgb.shape == (17, 64, 96, 3) and clips[0].fps == 24
    assert clips[0].caption == manifest["caption"][0] != ""
    assert clips[0].license == "Apache-2.0" and clips[0].depth is None


def test_worlds_have_the_requested_size(tmp_path):
    size = {"num_frames": 9, "height": 32, "width": 48}
    build_data(tmp_path / "data", num_worlds=1, with_real=False, **size)
    source = SourceShard(tmp_path / "data", "worlds-0000")
    assert [source.read(name).rgb.shape for name in source.names] == [(9, 32, 48, 3)]
    with pytest.raises(ValueError, match="height: expected at least 1, got 0"):
        build_data(tmp_path / "none", num_worlds=1, with_real=False, height=0)
    assert not (tmp_path / "none").exists()


def test_building_is_deterministic(built, tmp_path):
    build_data(tmp_path / "again", num_worlds=3, with_real=False)
    for path in sorted(path for path in built.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(built)).read_bytes(), path.name


def test_held_out_seeds_are_skipped(tmp_path):
    build_data(tmp_path / "data", num_worlds=2, with_real=False, first_seed=HELD_OUT_SEEDS[0] - 1)
    seeds = [world_seed(name) for name in read_manifest(tmp_path / "data")["name"]]
    assert seeds == [HELD_OUT_SEEDS[0] - 1, HELD_OUT_SEEDS[-1] + 1]


def test_nonempty_output_folder_raises_and_is_unchanged(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="expected no such folder"):
        build_data(tmp_path, num_worlds=1, with_real=False)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_zero_clips_raises(tmp_path):
    with pytest.raises(ValueError, match="num_worlds: expected at least 1, got 0"):
        build_data(tmp_path / "data", num_worlds=0, with_real=False)


def test_missing_data_set_suggests_dvc_pull(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `dvc pull`"):
        read_manifest(tmp_path / "data")


def test_missing_shard_suggests_dvc_pull(data):
    (data / "shards" / "worlds-0000.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"worlds-0000\.tar: the shard is missing: run `dvc pull`"):
        SourceShard(data, "worlds-0000")


def test_unknown_shard_lists_the_available_ones(data):
    with pytest.raises(ValueError, match="expected one of worlds-0000, got 'worlds-0009'"):
        SourceShard(data, "worlds-0009")


def test_unreadable_manifest_raises(data):
    (data / "manifest.parquet").write_text("name,shard")
    with pytest.raises(DataError, match=r"manifest\.parquet: cannot be read as Parquet"):
        read_manifest(data)


def test_manifest_with_a_missing_column_raises(data):
    table = pd.read_parquet(data / "manifest.parquet").drop(columns="sha256")
    table.to_parquet(data / "manifest.parquet")
    with pytest.raises(DataError, match="missing: sha256"):
        read_manifest(data)


@pytest.mark.parametrize("column", ["name", "shard"])
def test_manifest_names_must_be_safe_file_names(tmp_path, column):
    valid = dict.fromkeys(COLUMNS, "x") | {"num_frames": 1, "height": 16, "width": 16, "fps": 24.0, "tags": []}
    valid |= {"shot": 0, "start": 0.0}
    for bad in ("../../x", "a/b", "..", ""):
        write_manifest(tmp_path, [valid | {"name": "y"}, valid | {column: bad}])
        with pytest.raises(DataError, match=f"row 1: {column}: expected .*, got '{re.escape(bad)}'"):
            read_manifest(tmp_path)


def test_duplicate_names_in_the_manifest_raise(data):
    table = pd.read_parquet(data / "manifest.parquet")
    pd.concat([table, table[:1]]).to_parquet(data / "manifest.parquet")
    with pytest.raises(DataError, match="found duplicates: world-000100000"):
        read_manifest(data)


def test_corrupt_clip_raises_and_the_others_stay_readable(data):
    source = SourceShard(data, "worlds-0000")
    content = bytearray(source.path.read_bytes())
    offset, size = source._members["world-000100001.mkv"]
    content[offset + size // 2] ^= 1
    source.path.write_bytes(content)
    damaged = SourceShard(data, "worlds-0000")
    with pytest.raises(DataError, match=r"world-000100001: expected sha256 .* truncated or modified"):
        damaged.read("world-000100001")
    assert np.array_equal(damaged.read("world-000100002").rgb, source.read("world-000100002").rgb)


def test_member_of_an_impossible_size_is_reported_as_damage(data):
    """A tar header that claims 1 PiB, in the binary size field of GNU tar."""
    path = data / "shards" / "worlds-0000.tar"
    content = bytearray(path.read_bytes())
    content[124:136] = (0x80 << 88 | 1 << 50).to_bytes(12, "big")
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"world-000100000: missing: the shard is truncated or modified"):
        SourceShard(data, "worlds-0000").read("world-000100000")


def test_truncated_shard_yields_the_clips_before_the_cut(data):
    source = SourceShard(data, "worlds-0000")
    offset, size = source._members["world-000100001.mkv"]
    source.path.write_bytes(source.path.read_bytes()[: offset + size // 2])
    cut = SourceShard(data, "worlds-0000")
    assert cut.read("world-000100000").num_frames == 17
    with pytest.raises(DataError, match="truncated"):
        cut.read("world-000100001")
    with pytest.raises(DataError, match="world-000100002: missing: the shard is truncated"):
        cut.read("world-000100002")


def test_shard_that_is_not_a_tar_file_raises(data):
    (data / "shards" / "worlds-0000.tar").write_text("hello" * 200)
    with pytest.raises(DataError, match=r"worlds-0000\.tar: cannot be read as a tar file"):
        SourceShard(data, "worlds-0000")


def test_data_archive_of_a_debian_package_is_extracted():
    def member(name: str, content: bytes) -> bytes:
        """An `ar` member with its header and padding."""
        header = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(content):<10}`\n".encode()
        return header + content + b"\n" * (len(content) % 2)

    package = (
        b"!<arch>\n"
        + member("debian-binary", b"2.0\n")
        + member("control.tar.xz", b"odd")
        + member("data.tar.xz", b"payload")
    )
    assert _data_of_deb(package) == b"payload"
    with pytest.raises(ValueError, match=r"no data\.tar"):
        _data_of_deb(package[: -60 - 8])


def test_data_remote_in_the_repository_is_complete():
    digest = re.search(r"md5: (\w+)\.dir", (ROOT / "data.dvc").read_text()).group(1)
    objects = ROOT / "data-remote" / "files" / "md5"
    listing = json.loads((objects / digest[:2] / f"{digest[2:]}.dir").read_text())
    assert {"manifest.parquet", "LICENSES.md", "shards/real-0000.tar"} <= {entry["relpath"] for entry in listing}
    for entry in listing:
        content = (objects / entry["md5"][:2] / entry["md5"][2:]).read_bytes()
        assert hashlib.md5(content).hexdigest() == entry["md5"], entry["relpath"]
    assert sum(path.stat().st_size for path in objects.rglob("*") if path.is_file()) < 30_000_000
