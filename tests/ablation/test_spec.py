"""Ablation specs: built-in variants, JSON files, and validation."""

import json

import pytest

from fourdnex.ablation.spec import BUILT_IN, AblationSpec, read_spec
from fourdnex.model.recipe import REFERENCE_RECIPE, Recipe


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_ablations_have_distinct_valid_variants(name):
    spec = read_spec(name)
    settings = [json.dumps(spec.settings_of(variant), sort_keys=True) for variant in spec.variants]
    assert len(set(settings)) == len(settings) >= 2


def test_reference_variant_is_the_reference_recipe_with_plain_loss():
    reference = read_spec("recipe").settings_of("reference")
    assert Recipe(**{key: value for key, value in reference.items() if key in Recipe().choices()}) == REFERENCE_RECIPE
    assert reference["xyz_weight"] == reference["sigma_shift"] == 1.0
    assert read_spec("recipe").settings_of("fourdnex") == {}


def test_improvements_change_one_field_at_a_time():
    spec = read_spec("improvements")
    assert spec.variants["fourdnex"] == {}
    assert spec.variants["normalization=frame"] == {"normalization": "frame"}
    assert {len(changes) for name, changes in spec.variants.items() if name != "fourdnex"} == {1}


def test_reads_a_json_file(tmp_path):
    path = tmp_path / "mask.json"
    path.write_text('{"name": "mask", "settings": {"targets": ["to_q"]}, "variants": {"a": {}, "b": {"xyz_mask": 1}}}')
    spec = read_spec(path)
    assert spec.settings_of("a") == {"targets": ("to_q",)}
    assert spec.settings_of("b") == {"targets": ("to_q",), "xyz_mask": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a", "variants": {"x": {}}}', "a: variants: expected at least two"),
        ('{"name": "a", "variants": {"x": {}, "y": {"color": 1}}}', r"a: y: expected some of .*, got \['color'\]"),
        ('{"name": "a", "variants": {"x": {}, "y": {"steps": 9}}}', r"a: y: expected some of .*, got \['steps'\]"),
        ('{"name": "a", "variants": {"x": {}, "y": {"rank": 0}}}', "a: y: rank: expected at least 1, got 0"),
        ('{"name": "a", "variants": {"x": {}, "y": {"rank": "many"}}}', "a: y: "),
        ('{"name": "a", "variants": {"x": {}, "y": null}}', "a: y: expected an object, got None"),
        ('{"name": "a", "variants": {"x": 3, "y": {}}}', "a: x: expected an object, got 3"),
        ('{"variants": {}}', r"expected an object with name, variants and optional settings, got \['variants'\]"),
        ("[]", "expected an object with name, variants and optional settings, got list"),
        ('{"name": "a", "variants": 3}', "variants: expected an object, got 3"),
        ("{", "expected JSON"),
    ],
)
def test_invalid_files_raise(tmp_path, text, message):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_spec(tmp_path / "spec.json")


def test_unknown_name_lists_the_built_in_ablations():
    with pytest.raises(ValueError, match=r"spec: expected a JSON file or one of \['decode'.*'recipe'.*, got 'color'"):
        read_spec("color")


def test_variants_are_validated_on_construction():
    with pytest.raises(ValueError, match=r"m: y: xyz_mask: expected a number in \[0, 1\], got 2"):
        AblationSpec(name="m", variants={"x": {}, "y": {"xyz_mask": 2}})


def test_former_names_are_read(tmp_path):
    with pytest.warns(DeprecationWarning, match="'start' is now named 'xyz-init'"):
        assert read_spec("start") == read_spec("xyz-init")
    path = tmp_path / "former.json"
    path.write_text('{"name": "a", "variants": {"x": {"pure_noise": 0.1}, "y": {"xyz_start": "given"}}}')
    with pytest.warns(DeprecationWarning, match="xyz_start"):
        spec = read_spec(path)
    assert spec.variants == {"x": {"sigma_one_prob": 0.1}, "y": {"xyz_init": "pointmap"}}
