"""End-to-end benchmark on a random base with a random adapter."""

import json
import shutil
import weakref
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from fourdnex.annotation import annotate_shard
from fourdnex.datasets.annotated import clip_arrays, clip_row, iter_annotated, save_arrays, write_annotated
from fourdnex.datasets.build import build_data
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world, world_name
from fourdnex.evaluation import benchmark
from fourdnex.evaluation.benchmark import (
    BASELINES,
    FLOOR_WORLDS,
    Evaluation,
    evaluate,
    mean_pointmap,
    score_adapter,
)
from fourdnex.evaluation.scoring import METRICS
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.renamed import renamed_methods
from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, read_adapter_info, save_adapter
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import base_digest
from fourdnex.model.transformer import SixDTransformer

SHARD = "worlds-0000"


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Folder with two annotated worlds, and a table that accepts both."""
    root = tmp_path_factory.mktemp("benchmark")
    build_data(root / "data", num_worlds=2, with_real=False)
    annotate_shard(root / "data", SHARD, root / "annotated")
    accept(root, [True, True])
    return root


def accept(root, accepted) -> None:
    names = pd.read_parquet(root / "annotated" / f"{SHARD}.parquet")["name"]
    pd.DataFrame({"name": names, "shard": SHARD, "accepted": accepted}).to_parquet(root / "curated.parquet")


@pytest.fixture(scope="module")
def config(annotated, random_base, tmp_path_factory) -> Evaluation:
    torch.manual_seed(0)
    transformer = SixDTransformer.from_base(load_pipeline(str(random_base))[0].transformer)
    add_lora(transformer, rank=2, alpha=2.0)
    with torch.no_grad():
        for value in transformer.parameters():
            if value.requires_grad:
                value.normal_(std=0.05)
    info = AdapterInfo(
        rank=2,
        alpha=2.0,
        base_digest=base_digest(str(random_base)),
        center=(0.0, 0.0, 4.0),
        scale=2.0,
        num_frames=17,
        height=64,
        width=96,
    )
    folder = tmp_path_factory.mktemp("evaluated")
    save_adapter(folder / "adapter", adapter_state(transformer), info)
    return Evaluation(
        adapter=folder / "adapter",
        out=folder / "report",
        model=str(random_base),
        annotated=annotated / "annotated",
        curated=annotated / "curated.parquet",
        num_worlds=2,
        num_inference_steps=1,
    )


@pytest.mark.slow
def test_report_compares_the_adapter_with_every_baseline(config):
    report = evaluate(config, identity={"git_commit": "c0ffee"})
    assert set(report["baselines"]) == set(BASELINES)
    for numbers in (report["adapter"], report["vae_floor"], *report["baselines"].values()):
        assert set(numbers) == {*METRICS, "recovered"}
        assert all(np.isfinite(value) for key, value in numbers.items() if key != "length_ratio")
    for metric, gain in report["gain"].items():
        best = min(numbers[metric] for numbers in report["baselines"].values())
        assert gain == pytest.approx(1 - report["adapter"][metric] / best)
    assert set(report["gain"]) == {"abs_rel", "chamfer"}
    assert report["num_worlds"] == 2 and report["identity"] == {"git_commit": "c0ffee"}
    assert json.loads((config.out / "report.json").read_text()) == report

    table = pd.read_parquet(config.out / "worlds.parquet")
    assert set(table["method"]) == {"adapter", "vae_floor", *BASELINES}
    assert set(table["world"]) == {world_name(seed) for seed in HELD_OUT_SEEDS[:2]}
    assert len(table) == 5 * 2 and FLOOR_WORLDS >= 2
    adapter = table[table["method"] == "adapter"]
    assert report["adapter"]["abs_rel"] == pytest.approx(adapter["abs_rel"].mean())
    assert (config.out / "contact_sheet.png").stat().st_size > 1000

    before = {path: path.stat().st_mtime_ns for path in config.out.iterdir()}
    assert evaluate(config) == report
    assert {path: path.stat().st_mtime_ns for path in config.out.iterdir()} == before

    former = {{"static_sloped_plane": "still_sloped_plane"}.get(k, k): v for k, v in report["baselines"].items()}
    (config.out / "report.json").write_text(json.dumps(report | {"baselines": former}))
    with pytest.warns(DeprecationWarning, match=r"still_sloped_plane \(now static_sloped_plane\)"):
        assert evaluate(config) == report
    former_table = table.assign(method=table["method"].replace("static_sloped_plane", "still_sloped_plane"))
    with pytest.warns(DeprecationWarning, match="still_sloped_plane"):
        assert renamed_methods(former_table, source="worlds.parquet").equals(table)


def test_report_with_other_settings_is_not_reused(config, annotated, tmp_path):
    """With other settings the evaluation runs, and here fails because the table is missing."""
    config.out.mkdir(exist_ok=True)
    with pytest.raises(FileNotFoundError):
        evaluate(replace(config, seed=1, curated=tmp_path / "nowhere.parquet"))


def test_first_pointmaps_are_exact_or_from_the_depth_network(config, tmp_path, monkeypatch):
    shutil.copytree(config.adapter, tmp_path / "adapter")
    info = asdict(read_adapter_info(config.adapter)) | {"xyz_init": "pointmap"}
    (tmp_path / "adapter" / "adapter.json").write_text(json.dumps({"schema_version": 1, **info}))
    clip = render_world(HELD_OUT_SEEDS[0])
    passed = []

    def denormalized(predictions, info, first_pointmaps):
        passed.append(first_pointmaps)
        return [(clip.rgb, clip.pointmaps)] * len(predictions)

    monkeypatch.setattr(benchmark, "_denormalized", denormalized)
    given = replace(config, adapter=tmp_path / "adapter")
    score_adapter(replace(given, depth_network="exact"), [clip])
    score_adapter(given, [clip])  # the preset's network
    exact, found = (first_pointmaps[0] for first_pointmaps in passed)
    assert np.array_equal(exact, clip.pointmaps[0])
    assert found.shape == exact.shape and not np.array_equal(found, exact)
    with pytest.raises(ValueError, match="first_pointmaps: this adapter starts from the sloped plane"):
        score_adapter(replace(config, depth_network="tiny"), [clip])


def test_worlds_have_the_adapters_size_and_one_base_is_loaded_at_a_time(config, tmp_path, monkeypatch):
    shutil.copytree(config.adapter, tmp_path / "adapter")
    info = asdict(read_adapter_info(config.adapter)) | {"num_frames": 9, "height": 32, "width": 48}
    (tmp_path / "adapter" / "adapter.json").write_text(json.dumps({"schema_version": 1, **info}))
    bases = []

    def load(*args, **kwargs):
        assert not any(base() for base in bases)
        loaded = load_pipeline(*args, **kwargs)
        bases.append(weakref.ref(loaded[0].transformer))
        return loaded

    monkeypatch.setattr(benchmark, "load_pipeline", load)
    report = evaluate(replace(config, adapter=tmp_path / "adapter", out=tmp_path / "report", num_worlds=1))
    assert len(bases) == 2
    assert all(np.isfinite(numbers["abs_rel"]) for numbers in (report["adapter"], *report["baselines"].values()))


def test_mean_pointmap_averages_the_accepted_worlds(annotated):
    info = AdapterInfo(rank=1, alpha=1.0, num_frames=17, height=64, width=96)
    one, other = (normalize_pointmaps(clip.pointmaps)[0] for clip in iter_annotated(annotated / "annotated", SHARD))
    mean = mean_pointmap(annotated / "annotated", annotated / "curated.parquet", info)
    assert np.allclose(mean, (one + other) / 2, atol=1e-5)
    try:
        accept(annotated, [False, True])
        mean = mean_pointmap(annotated / "annotated", annotated / "curated.parquet", info)
        assert np.allclose(mean, other, atol=1e-5)
        with pytest.raises(ValueError, match="expected accepted clips with at least 33 frames"):
            mean_pointmap(annotated / "annotated", annotated / "curated.parquet", replace(info, num_frames=33))
    finally:
        accept(annotated, [True, True])


def write_real(root, clips) -> None:
    """Write annotated real clips into `root`, and a table that accepts all of them."""
    rows, arrays = [], {}
    for clip in clips:
        arrays[clip.name] = root / f"{clip.name}.safetensors"
        save_arrays(arrays[clip.name], clip.name, clip_arrays(clip))
        rows.append(clip_row(clip, "real"))
    write_annotated(root, "real", rows, arrays)
    pd.DataFrame({"name": list(arrays), "shard": "real", "accepted": True}).to_parquet(root / "curated.parquet")


def test_mean_pointmap_without_exact_clips_uses_all_valid_pixels(tmp_path):
    """Two real clips: one pixel is valid in one of them, another in neither."""
    info = AdapterInfo(rank=1, alpha=1.0, num_frames=2, height=64, width=96)
    clips = [replace(render_world(seed, num_frames=2), annotator="sfm") for seed in (1, 2)]
    for clip, invalid in zip(clips, ([(0, 0)], [(0, 0), (5, 7)]), strict=True):
        for y, x in invalid:
            clip.depth[:, y, x] = np.nan
    expected = [normalize_pointmaps(clip.annotated_pointmaps())[0] for clip in clips]
    write_real(tmp_path, clips)
    mean = mean_pointmap(tmp_path, tmp_path / "curated.parquet", info)
    assert np.allclose(mean[:, 1:, 8:], ((expected[0] + expected[1]) / 2)[:, 1:, 8:], atol=1e-6)
    assert np.allclose(mean[:, 5, 7], expected[0][:, 5, 7], atol=1e-6)
    assert (mean[:, 0, 0] == 0).all()


def test_mean_pointmap_omits_clips_that_encoding_skips(tmp_path):
    """A frame without confident pixels has no center of its own."""
    info = AdapterInfo(rank=1, alpha=1.0, num_frames=2, height=64, width=96, normalization="frame")
    confident, unsure = (replace(render_world(seed, num_frames=2), annotator="sfm") for seed in (1, 2))
    unsure = replace(unsure, confidence=np.stack([np.ones((64, 96)), np.zeros((64, 96))]).astype(np.float32))
    write_real(tmp_path, [confident, unsure])
    mean = mean_pointmap(tmp_path, tmp_path / "curated.parquet", info)
    assert np.allclose(mean, normalize_pointmaps(confident.annotated_pointmaps(), per="frame")[0], atol=1e-6)
    write_real(tmp_path, [unsure])
    with pytest.raises(ValueError, match=f"and enough valid points in {tmp_path}, got none"):
        mean_pointmap(tmp_path, tmp_path / "curated.parquet", info)


def test_number_of_worlds_has_bounds(config):
    with pytest.raises(ValueError, match="num_worlds: expected 1 to 256, got 0"):
        replace(config, num_worlds=0)


@pytest.mark.slow
def test_held_out_clips_take_the_place_of_worlds(config, annotated, tmp_path):
    """The same metrics over the same methods, on annotated clips; pixels without confidence do not count."""
    clips = replace(config, clips=annotated / "annotated", out=tmp_path)
    report = evaluate(clips)
    table = pd.read_parquet(tmp_path / "worlds.parquet")
    names = set(pd.read_parquet(annotated / "annotated" / f"{SHARD}.parquet")["name"])
    assert set(table["world"]) == names == set(report["clips"]["names"])
    assert set(report["baselines"]) == set(BASELINES) and report["clips"]["known_share"] == 1.0
    assert np.isfinite(report["adapter"]["abs_rel"]) and report["num_worlds"] == 2
    assert evaluate(clips) == report
    assert evaluate(config)["settings"].keys() == report["settings"].keys() - {"clips", "min_confidence"}
