"""Recipes: validation, storage in adapter.json, digests, and adapter files written before a field existed."""

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
def test_invalid_values_raise_naming_the_field(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{name: value})
    with pytest.raises(ValueError, match=message):
        LoraTraining(latents=tmp_path, output=tmp_path, **{name: value})


def test_joint_condition_requires_width_fusion(tmp_path):
    assert Recipe(condition="joint").fusion == "width"
    with pytest.raises(ValueError, match="condition: expected apart with frame fusion, got joint"):
        LoraTraining(latents=tmp_path, output=tmp_path, condition="joint", fusion="frame")


def test_fields_added_later_do_not_change_digests():
    info = asdict(AdapterInfo(rank=1, alpha=1.0))
    older = {key: value for key, value in info.items() if key not in ("condition", "size")}
    assert recorded(info) == older
    assert recorded({"encoding": {"condition": "apart"}, "statistics": 1}) == {"encoding": {}, "statistics": 1}
    assert recorded({"condition": "joint"}) == {"condition": "joint"}


def test_adapter_info_keeps_the_recipe_of_its_training_run(tmp_path):
    run = LoraTraining(latents=tmp_path, output=tmp_path, xyz_mask=1.0, xyz_init="pointmap", normalization="frame")
    info = through_json(AdapterInfo(**run.choices(), rank=1, alpha=1.0))
    assert info.choices() == run.choices() == Recipe(**run.choices()).choices()
    assert (info.xyz_mask, info.xyz_init, info.normalization, info.decode) == (1.0, "pointmap", "frame", "apart")


def test_fields_missing_in_adapter_json_take_defaults():
    older = AdapterInfo(rank=1, alpha=1.0, statistics=LatentStatistics(mean=(0.5,), std=(2.0,))).to_json()
    for name in Recipe().choices():
        if name != "fusion":
            del older[name]
    info = AdapterInfo.from_json(older)
    assert info.choices() == Recipe().choices()
    assert info.statistics.mean == (0.5,)


def test_reference_statistics_must_have_the_reference_values():
    reference = AdapterInfo(rank=1, alpha=1.0, **REFERENCE_RECIPE.choices())
    assert through_json(reference) == reference
    with pytest.raises(ValueError, match=r"statistics: expected .* with statistics_from='reference'"):
        replace(reference, statistics=LatentStatistics(mean=(0.5,), std=(2.0,)))


def test_first_pointmaps_must_agree_with_xyz_init():
    Recipe(xyz_init="plane").check_first_pointmaps(False)
    Recipe(xyz_init="pointmap").check_first_pointmaps(True)
    with pytest.raises(ValueError, match=r"needs a first-frame point map .*: pass --depth-network or --first-frame-"):
        Recipe(xyz_init="pointmap").check_first_pointmaps(False)
    with pytest.raises(ValueError, match=r"starts from the sloped plane .*: remove --first-frame-geometry"):
        Recipe(xyz_init="plane").check_first_pointmaps(True)
