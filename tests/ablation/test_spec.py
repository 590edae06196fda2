"""What is compared: built-in ablations hold what they should, and a file that says something else is refused."""

import json

import pytest

from fourdnex.ablation.spec import BUILT_IN, AblationSpec, read_spec
from fourdnex.model.recipe import REFERENCE_RECIPE, Recipe


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_ablations_are_valid_and_compare(name):
    spec = read_spec(name)
    settings = [json.dumps(spec.settings_of(variant), sort_keys=True) for variant in spec.variants]
    assert len(set(settings)) == len(settings) >= 2


def test_the_public_variant_is_the_public_recipe_with_plain_loss():
    public = read_spec("recipe").settings_of("public")
    assert Recipe(**{key: value for key, value in public.items() if key in Recipe().choices()}) == REFERENCE_RECIPE
    assert public["xyz_weight"] == public["sigma_shift"] == 1.0
    assert read_spec("recipe").settings_of("ours") == {}


def test_improvements_put_back_one_public_choice_at_a_time():
    spec = read_spec("improvements")
    assert spec.variants["ours"] == {}
    assert spec.variants["normalization=frame"] == {"normalization": "frame"}
    assert {len(changes) for name, changes in spec.variants.items() if name != "ours"} == {1}


def test_a_file_is_read(tmp_path):
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
        ('{"variants": {}}', r"expected an object with name, variants and maybe settings, got \['variants'\]"),
        ("[]", "expected an object with name, variants and maybe settings, got list"),
        ('{"name": "a", "variants": 3}', "variants: expected an object, got 3"),
        ("{", "expected JSON"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, message):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_spec(tmp_path / "spec.json")


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match=r"spec: expected a JSON file or one of \['decode'.*'recipe'.*, got 'color'"):
        read_spec("color")


def test_a_variant_is_checked_when_the_spec_is_made():
    with pytest.raises(ValueError, match=r"m: y: xyz_mask: expected a number in \[0, 1\], got 2"):
        AblationSpec(name="m", variants={"x": {}, "y": {"xyz_mask": 2}})
