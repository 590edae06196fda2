"""OpenEXR: a file written by the OpenEXR library, files of other layouts, and damaged ones."""

import base64
import struct

import numpy as np
import pytest

from fourdnex.io.exr import read_exr_channel
from tests.io.exr_files import exr_bytes

# Written by OpenEXR 3.5 through the calls of ViPE: one channel Z of half floats, 18x20 pixels of 1 + y / 4 + x / 8,
# NaN at row 3, column 4.
REFERENCE = base64.b64decode(
    "di8xAQIAAABjaGFubmVscwBjaGxpc3QAEwAAAFoAAQAAAAAAAAABAAAAAQAAAABjb21wcmVzc2lvbgBjb21wcmVzc2lvbgABAAAAA2RhdGFX"
    "aW5kb3cAYm94MmkAEAAAAAAAAAAAAAAAEwAAABEAAABkaXNwbGF5V2luZG93AGJveDJpABAAAAAAAAAAAAAAABMAAAARAAAAbGluZU9yZGVy"
    "AGxpbmVPcmRlcgABAAAAAHBpeGVsQXNwZWN0UmF0aW8AZmxvYXQABAAAAAAAgD9zY3JlZW5XaW5kb3dDZW50ZXIAdjJmAAgAAAAAAAAAAAAA"
    "AHNjcmVlbldpbmRvd1dpZHRoAGZsb2F0AAQAAAAAAIA/ACUBAAAAAAAAqwEAAAAAAAAAAAAAfgAAAHhepczNDYUwDAPgN8obpWIS9uBHzh4c"
    "PAnKKIyC1NLS4Buk6iGfHP/qeDcqnkRyzlMKwjGs7k6SKjxEyL8I774mra+X0hck9z2EHEW+2Qa7HtqfROyyXoAZhn2IOj8yNRcFWESARcRC"
    "rkifqwKsIsAqYjkXpdy+7TsBRKJn1xAAAAAaAAAAeF5jWIAJErCIqTZAQCMSXYch0tAAADQlK8g="
)


def expected():
    y, x = np.mgrid[:18, :20]
    z = (1 + y / 4 + x / 8).astype(np.float32)
    z[3, 4] = np.nan
    return z


def test_a_file_of_the_reference_library():
    z = read_exr_channel(REFERENCE, "Z")
    assert z.dtype == np.float32 and np.array_equal(z, expected(), equal_nan=True)


@pytest.mark.parametrize("compression", [0, 2, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_compressions_types_and_several_channels(compression, dtype):
    rng = np.random.default_rng(0)
    smooth, noise = expected().astype(dtype), rng.normal(size=(18, 20)).astype(np.float32)
    content = exr_bytes({"Z": smooth, "A": noise}, compression=compression)
    assert np.array_equal(read_exr_channel(content, "Z"), smooth.astype(np.float32), equal_nan=True)
    assert np.array_equal(read_exr_channel(content, "A"), noise)


def test_every_truncation_is_refused():
    for length in range(0, len(REFERENCE), 7):
        with pytest.raises(ValueError, match=r"a\.exr: "):
            read_exr_channel(REFERENCE[:length], "Z", name="a.exr")


def test_changed_bytes_never_raise_another_error():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        content = bytearray(REFERENCE)
        content[rng.integers(len(content))] = rng.integers(256)
        try:
            assert read_exr_channel(bytes(content), "Z").ndim == 2
        except ValueError:
            refused += 1
    assert refused > 300


def test_what_is_not_supported_is_named():
    with pytest.raises(ValueError, match="expected a channel R, got Z"):
        read_exr_channel(REFERENCE, "R")
    with pytest.raises(ValueError, match="expected an OpenEXR image, got another format"):
        read_exr_channel(b"\x89PNG\r\n\x1a\n", "Z")
    content = exr_bytes({"Z": expected()}, compression=0)
    other = content.replace(b"compression\0compression\0\x01\0\0\0\0", b"compression\0compression\0\x01\0\0\0\x04")
    with pytest.raises(ValueError, match="expected no compression, ZIPS or ZIP, got code 4"):
        read_exr_channel(other, "Z")
    tiled = content[:4] + struct.pack("<I", 2 | 0x200) + content[8:]
    with pytest.raises(ValueError, match="got tiles"):
        read_exr_channel(tiled, "Z")
    huge = content.replace(struct.pack("<4i", 0, 0, 19, 17), struct.pack("<4i", 0, 0, 2**20, 2**20), 1)
    with pytest.raises(ValueError, match="expected at most"):
        read_exr_channel(huge, "Z")
