"""How large lifted scenes are."""

import pytest

from fourdnex.lifting import affordable_size, lifted_size, parse_resolution, resolution
from fourdnex.lifting.resolution import resolution_identity


@pytest.mark.parametrize(
    ("asked", "photograph", "expected"),
    [
        ("model", (2000, 3000), None),
        ("photo", (2000, 3000), (2000, 3000)),
        ("photo", (1999, 3001), (2000, 3000)),  # even
        (768, (2000, 3000), (512, 768)),
        (768, (3000, 2000), (768, 512)),
        (768, (400, 600), (400, 600)),  # no more pixels than there are
        (768, (64, 96), None),  # nothing to gain
    ],
)
def test_sizes(asked, photograph, expected):
    assert lifted_size(photograph, (64, 96), asked) == expected


def test_what_may_be_asked_for():
    assert parse_resolution("auto", default=768) == 768
    assert parse_resolution("photo", default=768) == "photo"
    assert parse_resolution("1024", default=768) == 1024
    for wrong in ("big", "0", -5, "8"):
        with pytest.raises(ValueError, match=f"resolution: expected auto, model, photo, .*got {wrong!r}"):
            parse_resolution(wrong, default=768)


def test_the_models_own_frames_depend_on_nothing_new():
    assert resolution_identity("model") == {}
    assert resolution_identity(768) == {"resolution": 768}


def test_goes_down_to_what_the_memory_holds_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(resolution, "_free_memory", lambda: 10**9)
    size = affordable_size((13_000, 20_000), num_frames=17, threads=2, name="huge")
    # Half of 10^9 bytes over 12 * 17 + 160 * 2 = 524 bytes a pixel: 954,198 pixels in the ratio 13 : 20.
    assert size == (786, 1210)
    assert "huge: 13000 x 20000 pixels would need 136.2 GB, of which 1.0 GB are free; 786 x 1210 instead" in caplog.text
    assert affordable_size((512, 768), num_frames=17, threads=2, name="small") == (512, 768)
