import io
import zipfile
import zlib

import numpy as np

from fourdnex.export.deflate import deflate, write_member


def test_concatenated_blocks_are_one_zlib_stream():
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((70_000, 3)).astype(np.float32)
    integers = np.arange(50_000, dtype=np.int32)
    blocks = [deflate(b"head"), deflate(floats), deflate(floats), deflate(integers), deflate(b"")]
    stream = zlib.decompressobj(-15)
    content = stream.decompress(b"".join(block.data for block in blocks) + b"\x03\x00")
    assert stream.eof and content == b"head" + 2 * floats.tobytes() + integers.tobytes()
    assert [block.size for block in blocks] == [4, 840_000, 840_000, 200_000, 0]
    assert blocks[1].crc == zlib.crc32(floats.tobytes())
    # Three of the four bytes of a random float are noise; in these integers mostly one byte of four changes.
    assert len(blocks[1].data) < 0.95 * 840_000 and len(blocks[3].data) < 0.4 * 200_000


def test_members_are_read_by_zipfile():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        write_member(archive, "a.txt", [deflate(b"one "), deflate(b"two")])
        archive.writestr("b.txt", "by zipfile")
        write_member(archive, "empty", [])
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None  # checksums
        assert archive.namelist() == ["a.txt", "b.txt", "empty"]
        assert [archive.read(name) for name in archive.namelist()] == [b"one two", b"by zipfile", b""]


def test_arrays_are_compressed_in_c_order():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert zlib.decompress(deflate(array.T).data + b"\x03\x00", -15) == array.T.tobytes()
