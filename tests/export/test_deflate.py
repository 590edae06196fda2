import io
import zipfile
import zlib

import numpy as np

from fourdnex.export.deflate import deflate, write_member


def test_pieces_in_a_row_are_one_stream_of_zlib():
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((70_000, 3)).astype(np.float32)
    integers = np.arange(50_000, dtype=np.int32)
    pieces = [deflate(b"head"), deflate(floats), deflate(floats), deflate(integers), deflate(b"")]
    stream = zlib.decompressobj(-15)
    content = stream.decompress(b"".join(piece.data for piece in pieces) + b"\x03\x00")
    assert stream.eof and content == b"head" + 2 * floats.tobytes() + integers.tobytes()
    assert [piece.size for piece in pieces] == [4, 840_000, 840_000, 200_000, 0]
    assert pieces[1].crc == zlib.crc32(floats.tobytes())
    # Of a float of 4 bytes the 3 of its digits are noise; of these integers hardly more than one byte of 4 changes.
    assert len(pieces[1].data) < 0.95 * 840_000 and len(pieces[3].data) < 0.4 * 200_000


def test_members_are_read_as_any_others():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        write_member(archive, "a.txt", [deflate(b"one "), deflate(b"two")])
        archive.writestr("b.txt", "by zipfile")
        write_member(archive, "nothing", [])
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None  # check sums
        assert archive.namelist() == ["a.txt", "b.txt", "nothing"]
        assert [archive.read(name) for name in archive.namelist()] == [b"one two", b"by zipfile", b""]


def test_only_the_rows_of_an_array_count_not_its_layout():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert zlib.decompress(deflate(array.T).data + b"\x03\x00", -15) == array.T.tobytes()
