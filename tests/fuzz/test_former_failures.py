"""Damaged files that once raised other errors, or took memory without limit, one test per kind."""

import json
import struct
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fourdnex.generation.captions import find_captions
from fourdnex.io.depth_codec import decode_depth, encode_depth
from fourdnex.io.numpy_files import read_npy, read_npz
from fourdnex.io.tables import read_parquet
from fourdnex.latents.dataset import LatentClips
from fourdnex.model.presets import get_preset
from fourdnex.rendering.camera_files import load_path
from fourdnex.scene import Scene4D
from fourdnex.tracks.files import read_tracks
from tests.fuzz import valid_files
from tests.fuzz.readers import read_collection, read_failed


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'shape': (", b"{'a': 1, 2: 3}", b"{[]: 1}", b"\xff"])
def test_a_header_that_is_no_literal(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match=r"a\.npy: expected a header of the \.npy format"):
        read_npy(tmp_path / "a.npy")


def test_an_archive_that_refers_to_an_offset_before_its_start(tmp_path):
    file = valid_files.npz(tmp_path)
    content = bytearray(file.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 20] = struct.pack("<II", len(content), 0)  # size and offset of the central directory
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: expected an undamaged \.npz file"):
        read_npz(file, ["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": 1 << 40}, "codes: expected a number from 1 to 65534"),
        ({"codes": "9"}, "codes: expected"),
        ({"near": [1]}, "near and far: expected finite numbers"),
        ({"near": 0}, "near and far"),
        ({"far": 1e400}, "near and far"),
    ],
)
def test_a_mapping_of_depth_with_other_values(changes, message):
    codes, mapping = encode_depth(np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match=message):
        decode_depth(codes, mapping | changes)


@pytest.mark.parametrize("field", ["num_frames", "sha256", "crc32", "fps", "name", "provenance", "depth"])
@pytest.mark.parametrize("value", [None, [1], True])
def test_a_scene_with_a_field_of_another_type(tmp_path, field, value):
    file = valid_files.scene_file("scene.json")(tmp_path)
    content = json.loads(file.read_text())
    if isinstance(value, bool) and field in ("num_frames", "fps"):
        value = "1"  # True counts as the number 1
    file.write_text(json.dumps(content | {field: value}))
    with pytest.raises(ValueError, match=rf"scene\.json: {field}: expected "):
        Scene4D.load(file.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": "3"}, "count: expected a whole number"),
        ({"num_frames": 1 << 40}, "num_frames: expected a whole number from 1 to"),
        ({"step": None}, "step: expected a positive number"),
    ],
)
def test_tracks_with_another_header(tmp_path, changes, message):
    file = valid_files.scene_file("tracks.safetensors")(tmp_path)
    header = {"version": 1, "count": 3, "num_frames": 3, "step": 0.1, "width": 9} | changes
    save_file(load_file(file), file, {"tracks": json.dumps(header)})
    with pytest.raises(ValueError, match=message):
        read_tracks(file)


def test_tracks_that_would_decompress_to_more_than_they_declare(tmp_path):
    file = valid_files.scene_file("tracks.safetensors")(tmp_path)
    header = {"version": 1, "count": 3, "num_frames": 3, "step": 0.1, "width": 9}
    bomb = np.frombuffer(zlib.compress(bytes(1 << 24), 9), np.uint8)
    save_file(load_file(file) | {"first_frame": bomb}, file, {"tracks": json.dumps(header)})
    with pytest.raises(ValueError, match="expected 12 bytes, got more"):
        read_tracks(file)


@pytest.mark.parametrize(
    "content", ["3", "[]", "{}", '{"source": "a", "images": 3}', '{"source": "a", "images": [{}]}']
)
def test_a_collection_without_its_entries(tmp_path, content):
    (tmp_path / "collection.json").write_text(content)
    with pytest.raises(ValueError, match=r"collection\.json: "):
        read_collection(tmp_path / "collection.json")


@pytest.mark.parametrize("content", ["3", "{}", "[3]", '[{"reason": "a"}]'])
def test_failures_without_a_file(tmp_path, content):
    (tmp_path / "failed.json").write_text(content)
    with pytest.raises(ValueError, match=r"failed\.json: "):
        read_failed(tmp_path / "failed.json")


def test_a_number_beyond_floating_point(tmp_path):
    frames = [{"transform_matrix": np.eye(4).tolist(), "fl_x": 10**400}]
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(ValueError, match=r"frames\[0\]\.fl_x: expected a finite number"):
        load_path(tmp_path / "path.json", intrinsics=np.eye(3), height=4, width=4)


@pytest.mark.parametrize("sizes", [{}, {"num_attention_heads": "2"}, {"num_attention_heads": [[]]}])
def test_a_base_without_sizes(tmp_path, sizes):
    valid_files.base(tmp_path).write_text(json.dumps({"attention_head_dim": 24} | sizes))
    with pytest.raises(ValueError, match="expected whole numbers num_attention_heads and attention_head_dim"):
        get_preset(tmp_path)


def test_a_table_that_is_not_parquet_or_lacks_a_column(tmp_path):
    import pyarrow.parquet as pq

    file = valid_files.latents_file("s.parquet")(tmp_path)
    with pytest.raises(ValueError, match=r"s\.parquet: missing columns: other"):
        read_parquet(file, columns=("name", "other"))
    damaged = {"pandas": json.dumps({"index_columns": [], "columns": [{"name": "name"}]})}
    pq.write_table(pq.read_table(file).replace_schema_metadata(damaged), file)
    with pytest.raises(ValueError, match=r"s\.parquet: cannot be read as Parquet"):
        read_parquet(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"s\.parquet: cannot be read as Parquet"):
        read_parquet(file)


def test_latents_that_lack_a_tensor_or_have_another_shape(tmp_path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = valid_files.latents_file("s.safetensors")(tmp_path)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    for changed in ({"a/xyz": torch.ones(16, 1, 2, 3)}, {"x": tensors.pop("a/xyz")}):
        save_file(tensors | changed, file, metadata)
        with pytest.raises(ValueError, match="latents: clip a in shard s: damaged"):
            LatentClips(tmp_path)[0]


def test_a_line_separator_in_a_caption(tmp_path):
    row = {"image": "a.jpg", "prompt": "A cup.\u2028On a table."}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    assert find_captions(tmp_path, [tmp_path / "a.jpg"]).texts == {"a.jpg": "A cup. On a table."}
