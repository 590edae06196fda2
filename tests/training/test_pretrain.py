"""Pretraining of the whole base: what is refused before anything is made."""

import pytest

from fourdnex.training.pretrain import pretrain_base

MINUTES = {"frame_minutes": 0.0, "clip_minutes": 0.0, "transformer_minutes": 0.0}


def test_an_output_that_holds_other_things_is_refused_before_anything_is_made(tmp_path):
    """As `--output pretrained` with the base's name forgotten."""
    (tmp_path / "pretrained" / "fourdnex-tiny").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="pretrained: expected nothing, an empty folder or a base to replace"):
        pretrain_base(tmp_path / "pretrained", tmp_path / "work", **MINUTES)
    assert not (tmp_path / "work").exists()
