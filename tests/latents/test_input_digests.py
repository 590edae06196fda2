"""Digests of files that are read again only if they changed."""

import hashlib
import os

from fourdnex.latents import input_digests as module
from fourdnex.latents.input_digests import input_digests


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_unchanged_files_are_not_read_again_and_changed_ones_are(tmp_path, monkeypatch):
    files = [tmp_path / "a", tmp_path / "b"]
    for file, content in zip(files, (b"one", b"two"), strict=True):
        file.write_bytes(content)
    read, sha256_file = [], module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(path.name) or sha256_file(path))
    out = tmp_path / "latents"
    assert input_digests(files, out, "s") == [digest(b"one"), digest(b"two")]
    assert input_digests(files, out, "s") == [digest(b"one"), digest(b"two")]
    assert read == ["a", "b"]
    files[1].write_bytes(b"ten")  # of the same size
    os.utime(files[1], ns=(5, 5))
    assert input_digests(files, out, "s") == [digest(b"one"), digest(b"ten")]
    assert read == ["a", "b", "b"]


def test_damaged_records_are_replaced(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    status = file.stat()
    record = tmp_path / ".s.inputs.json"
    for damaged in ("{", "[]", '{"a": 3}', f'{{"a": [{status.st_size}, {status.st_mtime_ns}, "short"]}}'):
        record.write_text(damaged)
        assert input_digests([file], tmp_path, "s") == [digest(b"one")]
        assert digest(b"one") in record.read_text()
