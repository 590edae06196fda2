"""The small base at toy size: training on rendered worlds, resumption, packing and generation."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from benchmarks.gpu_session import PART, TOY, Session, pack
from fourdnex.io.files import read_json
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import get_preset
from fourdnex.model.sampling import SamplingSettings
from fourdnex.pretraining.small import SMALL_CONFIG, pretrain_small


def test_the_small_base_fits_the_size_limit_of_results():
    with torch.device("meta"):
        model = WanTransformer3DModel(**SMALL_CONFIG)
    count = sum(value.numel() for value in model.parameters())
    assert 25e6 < count < 29e6  # 2 bytes each, and 3 MB of the other parts, below 60 MB


@pytest.mark.slow
def test_training_resumes_from_its_checkpoint_and_writes_a_base(random_base, tmp_path):
    config = replace(TOY, minutes=0.01, measured_worlds=1)
    folder, work = tmp_path / "base", tmp_path / "work"
    first = pretrain_small(config, random_base, folder, work)
    longer = replace(config, minutes=first["steps"] / first["steps_per_second"] / 60 + 0.1)
    second = pretrain_small(longer, random_base, folder, work)
    assert second["steps"] > first["steps"] and np.isfinite(second["generated_psnr_db"])
    lines = [json.loads(line) for line in (folder / "training" / "transformer.jsonl").read_text().splitlines()]
    assert lines[0]["config"]["num_frames"] == TOY.num_frames and lines[-1] == second
    pipeline, _ = load_pipeline(str(folder))
    image = np.zeros((1, 32, 48, 3), np.uint8)
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)
    video = pipeline.generate(image, ["A box rests."], num_frames=5, seeds=[0], sampling=sampling)
    assert np.isfinite(video.xyz).all()
    config_of = read_json(folder / "transformer" / "config.json")
    assert config_of["num_attention_heads"] * config_of["attention_head_dim"] == 128


def test_a_folder_with_the_small_config_has_the_small_preset(random_base, tmp_path):
    (tmp_path / "small" / "transformer").mkdir(parents=True)
    (tmp_path / "small" / "model_index.json").write_text("{}")
    (tmp_path / "small" / "transformer" / "config.json").write_text(json.dumps(SMALL_CONFIG))
    preset = get_preset(tmp_path / "small")
    assert (preset.name, preset.num_frames, preset.height, preset.width) == ("small", 25, 128, 192)


def test_a_base_is_packed_into_parts_that_can_be_joined(tmp_path):
    content = np.random.default_rng(0).bytes(PART + 1000)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights").write_bytes(content)
    out = tmp_path / "out"
    out.mkdir()
    parts = pack(tmp_path / "base", out)
    assert [part.name for part in parts] == ["base.tar.00", "base.tar.01"] == sorted(p.name for p in out.iterdir())
    assert max(part.stat().st_size for part in parts) == PART
    (tmp_path / "there").mkdir()
    subprocess.run("cat base.tar.* | tar x -C ../there", shell=True, cwd=out, check=True)
    assert (tmp_path / "there" / "base" / "weights").read_bytes() == content


def test_a_session_skips_finished_steps_and_continues_after_failures(tmp_path, capsys):
    def fails():
        raise RuntimeError("no kernel image")

    session = Session(tmp_path)
    session.step("first", lambda: {"passed": 3})
    session.step("second", fails)
    again = Session(tmp_path)
    again.step("first", fails)
    assert again.steps["first"]["figures"] == {"passed": 3}
    assert again.steps["second"]["status"] == "failed: RuntimeError: no kernel image"
    again.step("second", lambda: {})
    assert read_json(tmp_path / "summary.json")["steps"]["second"]["status"] == "done"
    with pytest.raises(RuntimeError, match=r"exit status 1: .*No module named nowhere"):
        again.run(1, "nowhere")
