"""Deflate streams made of pieces that are compressed apart, in threads, and the ZIP members that they make.

A piece ends at a byte and refers to nothing before it, so that pieces one after another are one stream. Any reader of
ZIP files reads it; it does not see where a piece ends.
"""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_END = b"\x03\x00"  # an empty last block: RFC 1951, 3.2.3 and 3.2.6
_WINDOW_BITS = -15  # of zlib: 32 KiB, without header and check sum


@dataclass(frozen=True)
class Piece:
    """A part of a stream: deflated, and what a ZIP file says of it."""

    data: bytes
    size: int  # bytes before compression
    crc: int


def deflate(content: bytes | np.ndarray) -> Piece:
    """One piece of a stream, of bytes or of an array in C order.

    Floats are compressed by Intel's igzip at level 2: the digits of a measured number are noise to any compressor, and
    zlib takes ten times as long to find that out. Integers are compressed by zlib at level 3, which finds more in them.
    """
    from isal import isal_zlib

    is_float = isinstance(content, np.ndarray) and content.dtype.kind == "f"
    data = np.ascontiguousarray(content).data.cast("B") if isinstance(content, np.ndarray) else content
    library, level = (isal_zlib, 2) if is_float else (zlib, 3)
    stream = library.compressobj(level, zlib.DEFLATED, _WINDOW_BITS)
    compressed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    return Piece(compressed, len(data), isal_zlib.crc32(data))


def write_member(archive: zipfile.ZipFile, name: str, pieces: Iterable[Piece]) -> None:
    """Append one member, made of pieces in their order, to an archive opened with mode "w"."""
    from isal import isal_zlib

    pieces = list(pieces)
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.file_size = sum(piece.size for piece in pieces)
    member.compress_size = sum(len(piece.data) for piece in pieces) + len(_END)
    member.CRC = 0
    for piece in pieces:
        member.CRC = isal_zlib.crc32_combine(member.CRC, piece.crc, piece.size)
    # zipfile compresses what it is given, and has no call for what is compressed already: the member's header and its
    # bytes are written here, and its entry in the directory by zipfile, when the archive is closed.
    file = archive.fp
    assert file is not None
    member.header_offset = file.tell()
    file.write(member.FileHeader(zip64=True))
    file.writelines(piece.data for piece in pieces)
    file.write(_END)
    archive.filelist.append(member)
    archive.NameToInfo[name] = member
    archive.start_dir = file.tell()
