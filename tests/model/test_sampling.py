"""Sampling settings: validation, and provenance."""

import json
from dataclasses import replace

import pytest

from fourdnex.model.sampling import SamplingSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1, got 0"),
        ({"ensemble_size": 0}, "ensemble_size: expected at least 1, got 0"),
        ({"guidance_scale": 0.5}, "guidance_scale: expected at least 1, got 0.5"),
        ({"guidance_interval": (0.6, 0.4)}, "guidance_interval: expected two noise levels, .* got 0.6 0.4"),
        ({"guidance_interval": (0.0, 1.5)}, "guidance_interval: expected two noise levels"),
        ({"cache_threshold": -0.1}, r"cache_threshold: expected a number in \[0, 1\), got -0.1"),
        ({"scheduler": "ddim"}, "scheduler: expected one of .*, got 'ddim'"),
        ({"distilled_scale": 0.5}, "distilled_scale: expected a distilled_lora with this option, got 0.5 without one"),
        ({"flow_shift": 0.0}, "flow_shift: expected a positive number, got 0.0"),
    ],
)
def test_invalid_settings_raise_naming_the_field(wrong, message):
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**wrong)


def test_guidance_is_applied_within_its_interval():
    settings = SamplingSettings(guidance_scale=5.0, guidance_interval=(0.2, 0.8))
    assert [settings.guides_at(level) for level in (0.1, 0.2, 0.5, 0.8, 0.9)] == [False, True, True, True, False]
    assert not replace(settings, guidance_scale=1.0).guides_at(0.5)


@pytest.mark.parametrize("idle", [{"guidance_interval": (0.5, 1.0)}, {"joint_guidance": False}])
def test_guidance_options_without_guidance_raise(idle):
    without = SamplingSettings(guidance_scale=1.0)
    with pytest.raises(
        ValueError, match=rf"{next(iter(idle))}: expected a guidance_scale above 1 with this option, got 1\.0"
    ):
        without.with_changes(**idle)
    assert without.with_changes(guidance_scale=2.0, **idle) == SamplingSettings(guidance_scale=2.0, **idle)


def test_provenance_is_unchanged_by_json():
    settings = SamplingSettings(guidance_interval=(0.2, 0.8))
    assert json.loads(json.dumps(settings.to_json())) == settings.to_json()
    assert settings.to_json() == SamplingSettings(guidance_interval=(0.2, 0.8)).to_json()
    assert settings.to_json() != replace(settings, num_inference_steps=8).to_json()
