"""Commands of data sets: check, card, merge, add and migrate."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fourdnex.annotation import ExactAnnotator, annotate_shard
from fourdnex.cli import main
from fourdnex.datasets.check import check_data
from fourdnex.datasets.manifest import FILE, list_shards, manifest_version, read_manifest, write_manifest
from fourdnex.datasets.merge import add_data, merge_data
from fourdnex.datasets.shards import SourceShard, add_member, write_shard
from fourdnex.datasets.worlds import render_world

SHARDS = ("worlds-0000", "worlds-0001")


def write(folder: Path, seeds, shards=SHARDS, **changes) -> Path:
    """A data set with one small world per seed, spread over the shards."""
    rows = []
    for shard, seed in zip(shards, seeds, strict=True):
        clip = render_world(seed, num_frames=3, height=32, width=48)
        rows += write_shard(folder, shard, [replace(clip, **changes)])
    write_manifest(folder, rows)
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "data", (100_000, 100_001))


def messages(data: Path, **options) -> list[str]:
    return [str(problem) for problem in check_data(data, **options).problems]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(data: Path, shard: str, change) -> None:
    """Write a shard again with the members that `change` returns."""
    path = data / "shards" / f"{shard}.tar"
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in change(members).items():
            add_member(tar, name, content)


def test_a_good_data_set_passes(data, capsys):
    assert messages(data) == [] and check_data(data).notes == ()
    assert main(["dataset", "check", str(data), "--workers", "2"]) == 0
    assert "2 clips in 2 shards, 0 problems" in capsys.readouterr().out


def test_broken_files_are_named_and_the_rest_is_checked(data, capsys):
    (data / "shards" / "worlds-0000.tar").unlink()
    (data / "shards" / "other.tar").write_bytes(b"")
    name = "world-000100001"
    rewrite(data, "worlds-0001", lambda members: members | {
        f"{name}.json": json.dumps(json.loads(members[f"{name}.json"]) | {"fps": 12.0}).encode(), "notes.txt": b"x",
    })  # fmt: skip
    assert main(["dataset", "check", str(data), "--json"]) == 1
    found = [each["message"] for each in json.loads(capsys.readouterr().out)["problems"]]
    assert found[0].endswith("worlds-0000.tar: the shard is missing: run `dvc pull`")
    assert found[1] == "notes.txt: expected a clip of manifest.parquet, got another member"
    assert found[2] == "fps: expected 24.0 as in manifest.parquet, got 12.0 in the .json member"
    assert found[3] == "expected a shard of manifest.parquet, got another file" and len(found) == 4


def test_damaged_videos_and_cut_shards_are_named(data):
    path = data / "shards" / "worlds-0000.tar"
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)
    (data / "shards" / "worlds-0001.tar").write_bytes((data / "shards" / "worlds-0001.tar").read_bytes()[:1500])
    found = messages(data, decode=False)
    assert found[0].startswith("worlds-0000: world-000100000: expected sha256")
    assert found[1].startswith("worlds-0001: cut off") or "missing" in found[1]
    assert any(each.startswith("worlds-0001: world-000100001") and "missing" in each for each in found)


@pytest.mark.parametrize(("column", "value", "message"), [
    ("fps", 0.0, "fps: expected more than 0, got 0.0"),
    ("fps", float("inf"), "fps: expected more than 0, got inf"),
    ("num_frames", 0, "num_frames: expected at least 1, got 0"),
    ("start", -1.0, "start: expected at least 0, got -1.0"),
    ("sha256", "abc", "sha256: expected 64 hexadecimal digits, got 'abc'"),
])  # fmt: skip
def test_values_out_of_range_are_named(data, column, value, message):
    rows = read_manifest(data).to_dict("records")
    write_manifest(
        data, [row | {"tags": list(row["tags"])} | ({column: value} if k else {}) for k, row in enumerate(rows)]
    )
    assert f"worlds-0001: world-000100001: {message}" in messages(data)


def test_equal_videos_and_missing_licenses_are_notes(tmp_path):
    clip = replace(render_world(100_000, num_frames=3, height=32, width=48), license="")
    clips = [clip, replace(clip, name="world-000100009")]
    write_manifest(
        tmp_path,
        [write_shard(tmp_path, shard, part)[0] for shard, part in zip(SHARDS, [[each] for each in clips], strict=True)],
    )
    notes = [str(note) for note in check_data(tmp_path).notes]
    assert notes == [
        "manifest.parquet: 2 clips have no license",
        "worlds-0001: world-000100009: has the same video as world-000100000",
    ]


def test_added_clips_become_new_shards_and_the_others_stay(data, tmp_path, capsys):
    more = write(tmp_path / "more", (100_001, 100_005))
    (more / "LICENSES.md").write_text("# Licenses\n\n`world-*`: Apache-2.0\n")
    before = files(data)
    assert main(["dataset", "add", str(data), str(more)]) == 0
    output = capsys.readouterr()
    assert "1 clips in 1 shards added, 1 duplicates left out" in output.out
    assert "shard worlds-0001: the name is taken; now worlds-0002" in output.err
    assert "left out: world-000100001: a clip with the same video is there" in output.err
    assert {name: content for name, content in files(data).items() if name in before and name != FILE} == {
        name: content for name, content in before.items() if name != FILE
    }
    assert list_shards(data) == [*SHARDS, "worlds-0002"] and messages(data) == []
    assert (data / "LICENSES.md").read_text() == (more / "LICENSES.md").read_text()
    assert add_data(data, [more]).clips == 0, "a second time adds nothing"


def test_merged_shards_are_copied_byte_for_byte(data, tmp_path):
    more = write(tmp_path / "more", (100_005, 100_006), shards=("a", "b"))
    report = merge_data([data, more], tmp_path / "all")
    assert report.shards == (*SHARDS, "a", "b") and report.renamed == report.duplicates == ()
    for folder in (data, more):
        for path in (folder / "shards").iterdir():
            assert path.read_bytes() == (tmp_path / "all" / "shards" / path.name).read_bytes()
    assert messages(tmp_path / "all") == []
    with pytest.raises(FileExistsError):
        merge_data([data], tmp_path / "all")


def test_a_failed_merge_changes_nothing(data, tmp_path):
    more = write(tmp_path / "more", (100_005, 100_006), shards=("a", "b"))
    path = more / "shards" / "b.tar"
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)
    before = files(data)
    with pytest.raises(ValueError, match="world-000100006: expected sha256"):
        add_data(data, [more])
    assert files(data) == before
    with pytest.raises(ValueError, match="expected sha256"):
        merge_data([data, more], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_two_clips_of_one_name_are_refused(data, tmp_path):
    more = write(tmp_path / "more", (100_007,), shards=("a",), name="world-000100000")
    with pytest.raises(ValueError, match=r"more: world-000100000: expected another name: a clip in .*data has it"):
        add_data(data, [more])


def test_a_manifest_of_an_earlier_version_is_migrated(data, capsys):
    table = pq.read_table(data / FILE).drop_columns(["video", "shot", "start", "source_sha256"])
    pq.write_table(table.replace_schema_metadata(None), data / FILE)
    before = read_manifest(data)
    assert manifest_version(data) == 1 and "version 1" in str(check_data(data).notes[0])
    assert main(["dataset", "migrate", str(data)]) == 0
    pd.testing.assert_frame_equal(read_manifest(data), before)
    assert manifest_version(data) == 2 and messages(data) == []
    assert main(["dataset", "migrate", str(data)]) == 0
    assert capsys.readouterr().out.endswith("version 2, up to date\n")


def test_the_card_counts_and_shows_the_clips(data, tmp_path):
    annotate_shard(data, SHARDS[0], tmp_path / "annotated")
    arguments = ["dataset", "card", str(data), str(tmp_path / "card"), "--title", "Small worlds"]
    assert main([*arguments, "--annotated", str(tmp_path / "annotated")]) == 0
    text = (tmp_path / "card" / "README.md").read_text()
    assert text.startswith("---\nlicense: apache-2.0\n") and "# Small worlds\n" in text
    exact = f"| exact {ExactAnnotator.version} (Apache-2.0) | 1 |"
    for line in ("| 32x48 | 2 |", "| Apache-2.0 | 2 |", "| annotated clips | 1 |", exact):
        assert line in text
    with Image.open(tmp_path / "card" / "samples.jpg") as sheet:
        assert sheet.size[0] > 2 * 240
    again = files(tmp_path / "card")
    assert main([*arguments, "--annotated", str(tmp_path / "annotated")]) == 0
    assert files(tmp_path / "card") == again


def test_info_counts(data, capsys):
    assert main(["dataset", "info", str(data), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["clips"], facts["frames"], facts["shards"]) == (2, 6, 2)
    assert facts["clips_by_size"] == {"32x48": 2} and facts["clips_with_caption"] == 2


def test_a_copy_reads_like_the_original(data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    merge_data([tmp_path / "copy"], tmp_path / "all")
    for shard in SHARDS:
        for name in SourceShard(data, shard).names:
            assert (
                SourceShard(tmp_path / "all", shard).read(name).rgb == SourceShard(data, shard).read(name).rgb
            ).all()


def test_an_interrupted_add_can_be_repeated(data, tmp_path):
    """A shard that was copied before the process was killed is not in the manifest, and is replaced."""
    more = write(tmp_path / "more", (100_005,), shards=("a",))
    (data / "shards" / "a.tar").write_bytes(b"half")
    assert add_data(data, [more]).shards == ("a",)
    assert messages(data) == []


def test_notices_that_are_not_text_are_refused_before_anything_changes(data, tmp_path):
    more = write(tmp_path / "more", (100_005,), shards=("a",))
    (more / "LICENSES.md").write_bytes(b"caf\xe9")
    before = files(data)
    with pytest.raises(ValueError, match=r"LICENSES\.md"):
        add_data(data, [more])
    assert files(data) == before


def test_equal_videos_within_one_data_set_are_added_once(data, tmp_path):
    clip = render_world(100_005, num_frames=3, height=32, width=48)
    more = tmp_path / "more"
    write_manifest(more, write_shard(more, "a", [clip, replace(clip, name="copy")]))
    report = add_data(data, [more])
    assert (report.clips, report.duplicates) == (1, ("copy",)) and messages(data) == []
