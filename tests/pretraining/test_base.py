"""Pretraining of a whole base: invalid arguments, and further training of a base without logs."""

import json

import pytest

from fourdnex.pretraining import base
from fourdnex.pretraining.base import pretrain_base

MINUTES = {"frame_minutes": 0.0, "clip_minutes": 0.0, "transformer_minutes": 0.0}


def test_an_output_with_other_files_is_rejected_before_training(tmp_path):
    """For example `--output pretrained` without the base's name."""
    (tmp_path / "pretrained" / "fourdnex-tiny").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="pretrained: expected nothing, an empty folder or a base to replace"):
        pretrain_base(tmp_path / "pretrained", tmp_path / "work", **MINUTES)
    assert not (tmp_path / "work").exists()


def test_nothing_to_train_is_rejected_before_training(tmp_path):
    message = r"transformer_minutes: expected more than 0 .*, got 0"
    for more in ({}, {"decoder_minutes": 9.0}, {"start": tmp_path}):
        with pytest.raises(ValueError, match=message):
            pretrain_base(tmp_path / "base", tmp_path / "work", **MINUTES, **more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_base_without_logs_is_trained_further(random_base, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "NUM_WORLDS", 2)
    out = pretrain_base(tmp_path / "base", tmp_path / "work", **MINUTES, decoder_minutes=0.001, start=random_base)
    assert sorted(path.name for path in (out / "training").iterdir()) == ["vae.jsonl", "vae.png"]
    lines = [json.loads(line) for line in (out / "training" / "vae.jsonl").read_text().splitlines()]
    assert lines[0]["config"]["minutes"] == 0.001
    assert (out / "model_index.json").is_file()
