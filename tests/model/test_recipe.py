"""The recipe: its choices are checked, kept in adapter.json, covered by the digest, and read from older files."""

import json
from dataclasses import asdict, replace

import pytest

from fourdnex.latents.codec import LatentStatistics
from fourdnex.model.adapter_files import AdapterInfo
from fourdnex.model.recipe import REFERENCE_RECIPE, Recipe, recorded
from fourdnex.training.lora_settings import LoraTraining


def through_json(info: AdapterInfo) -> AdapterInfo:
    return AdapterInfo.from_json(json.loads(json.dumps(info.to_json())))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("normalization", "shot", r"normalization: expected one of \('clip', 'frame'\), got 'shot'"),
        ("fusion", "depth", r"fusion: expected one of \('width', .*'channel'\), got 'depth'"),
        ("xyz_init", "depth", "xyz_init: expected one of"),
        ("condition", "both", "condition: expected one of"),
        ("decode", "twice", "decode: expected one of"),
        ("statistics_from", "wan", "statistics_from: expected one of"),
        ("xyz_mask", 1.5, r"xyz_mask: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_choices_are_refused_by_name(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{name: value})
    with pytest.raises(ValueError, match=message):
        LoraTraining(latents=tmp_path, output=tmp_path, **{name: value})


def test_a_joint_condition_needs_halves_side_by_side(tmp_path):
    assert Recipe(condition="joint").fusion == "width"
    with pytest.raises(ValueError, match="condition: expected apart with frame fusion, got joint"):
        LoraTraining(latents=tmp_path, output=tmp_path, condition="joint", fusion="frame")


def test_a_choice_that_came_later_changes_no_digest():
    info = asdict(AdapterInfo(rank=1, alpha=1.0))
    older = {key: value for key, value in info.items() if key not in ("condition", "size")}
    assert recorded(info) == older
    assert recorded({"encoding": {"condition": "apart"}, "statistics": 1}) == {"encoding": {}, "statistics": 1}
    assert recorded({"condition": "joint"}) == {"condition": "joint"}


def test_an_adapter_keeps_the_recipe_of_its_training_run(tmp_path):
    run = LoraTraining(latents=tmp_path, output=tmp_path, xyz_mask=1.0, xyz_init="pointmap", normalization="frame")
    info = through_json(AdapterInfo(**run.choices(), rank=1, alpha=1.0))
    assert info.choices() == run.choices() == Recipe(**run.choices()).choices()
    assert (info.xyz_mask, info.xyz_init, info.normalization, info.decode) == (1.0, "pointmap", "frame", "apart")


def test_an_adapter_file_from_before_there_was_a_choice_is_the_default_recipe():
    older = AdapterInfo(rank=1, alpha=1.0, statistics=LatentStatistics(mean=(0.5,), std=(2.0,))).to_json()
    for name in Recipe().choices():
        if name != "fusion":
            del older[name]
    info = AdapterInfo.from_json(older)
    assert info.choices() == Recipe().choices()
    assert info.statistics.mean == (0.5,)


def test_public_statistics_that_are_not_the_public_ones_are_refused():
    public = AdapterInfo(rank=1, alpha=1.0, **REFERENCE_RECIPE.choices())
    assert through_json(public) == public
    with pytest.raises(ValueError, match="statistics: expected the public ones"):
        replace(public, statistics=LatentStatistics(mean=(0.5,), std=(2.0,)))
