"""Multi-threaded deflate: independently compressed blocks that form one stream, and ZIP members made of them.

A block ends at a byte boundary and does not refer to data before it, so concatenated blocks are one valid deflate
stream for any ZIP reader.
"""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_END = b"\x03\x00"  # an empty final block: RFC 1951, 3.2.3 and 3.2.6
_WINDOW_BITS = -15  # zlib: window of 32 KiB, without header and checksum


@dataclass(frozen=True)
class CompressedBlock:
    """A part of a deflate stream, with the size and CRC-32 that a ZIP file records."""

    data: bytes
    size: int  # uncompressed, in bytes
    crc: int


def deflate(content: bytes | np.ndarray) -> CompressedBlock:
    """Compress bytes, or an array in C order, to one block.

    Floats use Intel's igzip at level 2: their low-order bits are noise that no compressor reduces, and zlib takes ten
    times as long. Integers use zlib at level 3, which compresses them better.
    """
    from isal import isal_zlib

    is_float = isinstance(content, np.ndarray) and content.dtype.kind == "f"
    data = np.ascontiguousarray(content).data.cast("B") if isinstance(content, np.ndarray) else content
    library, level = (isal_zlib, 2) if is_float else (zlib, 3)
    stream = library.compressobj(level, zlib.DEFLATED, _WINDOW_BITS)
    compressed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    return CompressedBlock(compressed, len(data), isal_zlib.crc32(data))


def write_member(archive: zipfile.ZipFile, name: str, blocks: Iterable[CompressedBlock]) -> None:
    """Append a member, the concatenation of blocks, to an archive opened with mode "w"."""
    from isal import isal_zlib

    blocks = list(blocks)
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.file_size = sum(block.size for block in blocks)
    member.compress_size = sum(len(block.data) for block in blocks) + len(_END)
    member.CRC = 0
    for block in blocks:
        member.CRC = isal_zlib.crc32_combine(member.CRC, block.crc, block.size)
    # zipfile has no API for data that is compressed already: the member's header and data are written here, and
    # zipfile writes its directory entry when the archive is closed.
    file = archive.fp
    assert file is not None
    member.header_offset = file.tell()
    file.write(member.FileHeader(zip64=True))
    file.writelines(block.data for block in blocks)
    file.write(_END)
    archive.filelist.append(member)
    archive.NameToInfo[name] = member
    archive.start_dir = file.tell()
