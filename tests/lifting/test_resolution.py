"""Sizes of lifted scenes."""

import pytest

from fourdnex.lifting import affordable_size, lifted_size, parse_resolution, resolution
from fourdnex.lifting.resolution import resolution_identity


@pytest.mark.parametrize(
    ("resolution", "photograph", "expected"),
    [
        ("model", (2000, 3000), None),
        ("photo", (2000, 3000), (2000, 3000)),
        ("photo", (1999, 3001), (2000, 3000)),  # rounded to even numbers
        (768, (2000, 3000), (512, 768)),
        (768, (3000, 2000), (768, 512)),
        (768, (400, 600), (400, 600)),  # not more than the photograph
        (768, (64, 96), None),  # no gain
    ],
)
def test_lifted_size(resolution, photograph, expected):
    assert lifted_size(photograph, (64, 96), resolution) == expected


def test_parse_resolution():
    assert parse_resolution("auto", default=768) == 768
    assert parse_resolution("photo", default=768) == "photo"
    assert parse_resolution("1024", default=768) == 1024
    for invalid in ("big", "0", -5, "8"):
        with pytest.raises(ValueError, match=f"resolution: expected auto, model, photo, .*got {invalid!r}"):
            parse_resolution(invalid, default=768)


def test_model_resolution_adds_no_provenance():
    assert resolution_identity("model") == {}
    assert resolution_identity(768) == {"resolution": 768}


def test_size_is_reduced_to_the_available_memory_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(resolution, "_available_memory", lambda: 10**9)
    size = affordable_size((13_000, 20_000), num_frames=17, threads=2, name="huge")
    # Half of 10^9 bytes over 12 * 17 + 160 * 2 = 524 bytes per pixel: 954,198 pixels with aspect ratio 13 : 20.
    assert size == (786, 1210)
    assert (
        "huge: 13000 x 20000 pixels require 136.2 GB of memory, but 1.0 GB are available; using 786 x 1210"
        in caplog.text
    )
    assert affordable_size((512, 768), num_frames=17, threads=2, name="small") == (512, 768)
