"""Every reader of files handles thousands of damaged files: it succeeds, or raises ValueError or OSError."""

import pytest

from tests.fuzz.mutations import fuzz, quick_or_slow
from tests.fuzz.readers import READERS

QUICK, SLOW = 9, 500
"""Cases per reader of weight 1: a few hundred, and 20,000 in all."""


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """A lower limit for decoded pixels: a kilobyte can declare an image that takes seconds to convert."""
    monkeypatch.setattr("fourdnex.io.images.MAX_DECODED_PIXELS", 1 << 20)


@quick_or_slow(QUICK, SLOW)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_raise_documented_errors(tmp_path, name, cases):
    reader = READERS[name]
    file = reader.make(tmp_path)
    fuzz(
        file,
        reader.read,
        cases=max(4, round(cases * reader.weight)),
        mutate=reader.mutate,
        after=lambda: reader.after(file),
        named=reader.named,
    )
