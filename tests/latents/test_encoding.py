"""Encoding according to a recipe, and latents that do not fit a recipe, a base or their statistics."""

import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open

from fourdnex.clip import Clip
from fourdnex.datasets.annotated import clip_arrays, clip_row, iter_annotated, save_arrays, write_annotated
from fourdnex.geometry.pointmaps import normalize_pointmaps
from fourdnex.io.files import read_json, write_json
from fourdnex.latents import encoding
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.encoders import Encoders
from fourdnex.latents.encoding import encode_shard
from fourdnex.latents.shards import estimate_statistics, read_summary
from fourdnex.model import precision
from fourdnex.model.adapter import read_adapter_info
from fourdnex.model.conditioning import condition_latents, normalized_first_pointmap
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import get_preset
from fourdnex.model.recipe import Recipe
from fourdnex.model.sampling import SamplingSettings
from fourdnex.training.trainer import LoraTraining, train

SHARD = "worlds-0000"


@pytest.fixture(scope="module")
def root(tmp_path_factory, annotate_worlds) -> Path:
    """Two annotated worlds, and a table that accepts them."""
    return annotate_worlds(tmp_path_factory.mktemp("encoding"), 2)


def encode(root: Path, out: Path, model: Path, **settings) -> Path:
    report = encode_shard(root / "annotated", SHARD, root / "curated.parquet", out, model=str(model), **settings)
    assert report.done + report.cached == 2
    estimate_statistics(out)
    return out


@pytest.fixture(scope="module")
def by_frame(root, random_base) -> Path:
    """Latents normalized per frame, with first-frame point maps."""
    return encode(root, root / "by-frame", random_base, normalization="frame", xyz_init="pointmap")


@pytest.fixture(scope="module")
def by_clip(root, random_base) -> Path:
    return encode(root, root / "by-clip", random_base)


def settings(latents: Path, model: Path, output: Path, **recipe) -> LoraTraining:
    small = {"steps": 2, "batch_size": 2, "rank": 1, "alpha": 1.0, "num_samples": 0, "track": False}
    return LoraTraining(latents=latents, output=output, model=str(model), **small, **recipe)


def test_encoding_does_not_load_the_transformer(root, random_base, tmp_path, monkeypatch):
    """The transformer would take nine tenths of the memory of a large base."""

    def refused(cls, *args, **kwargs):
        raise AssertionError("encoding loads the transformer")

    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", classmethod(refused))
    encoding.release_encoders()
    assert encode(root, tmp_path, random_base).is_dir()


def test_released_encoders_are_freed(random_base):
    kept = weakref.ref(encoding._load_encoders(get_preset(str(random_base)).location, "fp32"))
    encoding.release_encoders()
    assert kept() is None


def test_latents_follow_the_recipe(root, by_frame, random_base):
    """XYZ latents and condition of the first clip are those of its point maps, normalized as requested."""
    clip = next(iter_annotated(root / "annotated", SHARD)).window(0, 17)
    codec = LatentCodec(load_pipeline(str(random_base))[0].vae, REFERENCE_STATISTICS)
    pointmaps = clip.annotated_pointmaps()
    xyz, normalization = normalize_pointmaps(pointmaps, per="frame")
    start = torch.from_numpy(normalized_first_pointmap(pointmaps[0])).permute(2, 0, 1)[None]
    with safe_open(by_frame / f"{SHARD}.safetensors", framework="pt") as file, torch.inference_mode():
        expected = codec.encode(torch.from_numpy(np.clip(xyz, -1, 1)).permute(3, 0, 1, 2)[None], "rgb")[0]
        assert torch.allclose(file.get_tensor(f"{clip.name}/xyz"), expected, atol=1e-4)
        expected = codec.encode_condition(start, 17)[0]
        assert torch.allclose(file.get_tensor(f"{clip.name}/xyz_condition"), expected, atol=1e-4)
    row = pd.read_parquet(by_frame / f"{SHARD}.parquet").set_index("name").loc[clip.name]
    assert row["center_z"] == pytest.approx(np.median(normalization.center[:, 2]))
    assert row["scale"] == pytest.approx(normalization.scale)
    encoding = read_summary(by_frame).encoding
    assert (encoding.normalization, encoding.xyz_init) == ("frame", "pointmap")


def test_captions_are_cleaned_like_prompts_and_rejected_if_too_long(root, random_base):
    pipeline, preset = load_pipeline(str(random_base))
    encoders = Encoders.load(str(random_base))
    clip = next(iter_annotated(root / "annotated", SHARD))
    codec, settings = LatentCodec(encoders.vae, REFERENCE_STATISTICS), encoding.LatentEncoding()

    def text(caption: str) -> torch.Tensor:
        return encoding.encode_clip(replace(clip, caption=caption), encoders, preset, codec, settings)[0]["text"]

    expected = text("A red box & a ball.")
    assert torch.equal(text("A  red box\n&amp; a ball."), expected)
    styled, _ = pipeline.encode_prompt(["A red box & a ball. POINTMAP_STYLE."], do_classifier_free_guidance=False)
    assert torch.allclose(styled[0, : len(expected)], expected, atol=1e-5) and not styled[0, len(expected) :].any()
    with pytest.raises(ValueError, match=rf"{clip.name}: caption: expected at most 512 tokens with the style suffix"):
        text("A red box slides left. " * 250)


def test_conditions_and_statistics_of_clips_follow_the_recipe(by_frame):
    given = LatentClips(by_frame, Recipe(normalization="frame", xyz_init="pointmap"))
    plane = LatentClips(by_frame, Recipe(normalization="frame", statistics_from="reference"))
    assert not torch.equal(given[0]["condition"][1], given[1]["condition"][1])
    assert torch.equal(plane[0]["condition"][1], plane[1]["condition"][1])
    assert torch.equal(given[0]["condition"][0], plane[0]["condition"][0])
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (given.statistics.mean, given.statistics.std))
    raw = given[0]["latents"][1] * std + mean
    assert torch.allclose(plane[0]["latents"][1], (raw + 0.13) / 1.7, atol=1e-4)


def test_an_adapter_records_its_recipe_and_generates_with_it(by_frame, random_base, tmp_path):
    config = settings(
        by_frame,
        random_base,
        tmp_path / "adapter",
        normalization="frame",
        xyz_init="pointmap",
        statistics_from="reference",
    )
    train(config)
    info = read_adapter_info(config.output)
    assert info.choices() == config.choices()
    assert info.statistics == REFERENCE_STATISTICS
    pipeline, preset = load_pipeline(str(random_base), config.output)
    image = np.zeros((1, preset.height, preset.width, 3), np.uint8)
    sampling = SamplingSettings(num_inference_steps=1, guidance_scale=1.0)
    arguments = {"num_frames": 17, "seeds": [0], "sampling": sampling}
    with pytest.raises(ValueError, match="first_pointmaps: this adapter needs a first-frame point map"):
        pipeline.generate(image, [""], **arguments)
    first_pointmaps = np.random.default_rng(0).uniform(1, 2, (1, preset.height, preset.width, 3)).astype(np.float32)
    video = pipeline.generate(image, [""], **arguments, first_pointmaps=first_pointmaps)
    other = pipeline.generate(image, [""], **arguments, first_pointmaps=first_pointmaps[:, ::-1].copy())
    assert np.abs(video.xyz - other.xyz).max() > 1e-5


@pytest.mark.parametrize("xyz_init", ["plane", "pointmap"])
def test_joint_conditions_are_encoded_side_by_side(root, random_base, tmp_path, xyz_init):
    folder = encode(root, tmp_path / "joint", random_base, condition="joint", xyz_init=xyz_init)
    recipe = Recipe(condition="joint", xyz_init=xyz_init)
    item = LatentClips(folder, recipe)[0]
    clip = next(iter_annotated(root / "annotated", SHARD)).window(0, 17)
    vae = load_pipeline(str(random_base))[0].vae
    image = torch.from_numpy(clip.rgb[0]).permute(2, 0, 1)[None] / 127.5 - 1
    first_pointmaps = None if xyz_init == "plane" else clip.annotated_pointmaps()[:1]
    with torch.inference_mode():
        expected = condition_latents(image, vae, 17, first_pointmaps=first_pointmaps, condition="joint")[0, 4:]
    assert torch.allclose(torch.cat(list(item["condition"]), dim=-1), expected, atol=1e-4)
    other = {"plane": "pointmap", "pointmap": "plane"}[xyz_init]
    with pytest.raises(ValueError, match=f"xyz_init: expected latents encoded jointly with xyz_init {other}"):
        LatentClips(folder, Recipe(condition="joint", xyz_init=other))
    with pytest.raises(ValueError, match="condition: expected latents whose conditions were encoded apart"):
        LatentClips(folder, Recipe(xyz_init=xyz_init))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"condition": "joint"}, "run `fourdnex encode --condition joint`"),
        ({"normalization": "frame"}, "normalization: expected latents normalized per frame"),
        ({"xyz_init": "pointmap"}, "xyz_init: expected latents with first-frame point maps"),
    ],
)
def test_latents_of_another_encoding_are_rejected(by_clip, random_base, tmp_path, recipe, message):
    with pytest.raises(ValueError, match=message):
        train(settings(by_clip, random_base, tmp_path / "adapter", **recipe))


def test_latents_of_another_base_are_rejected(by_clip, random_base, tmp_path):
    with pytest.raises(ValueError, match=r"latents: expected latents of base tiny .*, got latents of base"):
        train(replace(settings(by_clip, random_base, tmp_path / "adapter"), model="tiny"))


def test_statistics_of_other_latents_are_rejected(root, by_clip, random_base, tmp_path):
    folder = encode(root, tmp_path / "latents", random_base)
    encode_shard(
        root / "annotated", SHARD, root / "curated.parquet", folder, model=str(random_base), xyz_init="pointmap"
    )
    with pytest.raises(ValueError, match=r"statistics.json: estimated from other latents .*worlds-0000"):
        LatentClips(folder)
    (folder / f"{SHARD}.safetensors").rename(folder / "other.safetensors")
    (folder / f"{SHARD}.parquet").rename(folder / "other.parquet")
    with pytest.raises(ValueError, match="estimated from other latents"):
        LatentClips(folder)
    older = read_json(by_clip / "statistics.json")
    del older["shards"]
    write_json(folder / "statistics.json", older)
    with pytest.raises(ValueError, match="run `fourdnex encode` again"):
        LatentClips(folder)


def test_shards_of_two_encodings_have_no_common_statistics(root, by_clip, by_frame, tmp_path):
    for name, folder in (("a", by_clip), ("b", by_frame)):
        for suffix in ("safetensors", "parquet"):
            (tmp_path / f"{name}.{suffix}").write_bytes((folder / f"{SHARD}.{suffix}").read_bytes())
    with pytest.raises(ValueError, match="latents: expected one encoding for all shards"):
        estimate_statistics(tmp_path)


def test_shards_of_two_precisions_are_not_mixed(root, random_base, by_clip, tmp_path, monkeypatch):
    """On a processor with bf16 a folder is encoded again; a folder with both precisions is rejected."""
    out = tmp_path / "latents"
    shutil.copytree(by_clip, out)
    exact = read_summary(out)
    assert "precision" not in read_json(out / "statistics.json")["encoding"]  # as before there was a choice
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    encode(root, out, random_base)
    rounded = read_summary(out)
    assert (exact.encoding.precision, rounded.encoding.precision) == ("fp32", "bf16")
    assert exact.shards != rounded.shards
    assert read_json(out / "statistics.json")["encoding"]["precision"] == "bf16"
    one, other = (LatentClips(folder)[0]["latents"] for folder in (by_clip, out))
    assert 0 < (one - other).abs().mean() < 0.02 * one.std()
    for suffix in ("safetensors", "parquet"):
        shutil.copy(by_clip / f"{SHARD}.{suffix}", out / f"other.{suffix}")
    with pytest.raises(ValueError, match=r"expected one encoding for all shards .*'bf16'.* run `fourdnex encode`"):
        estimate_statistics(out)


def annotated_with_holes(folder: Path, clips: list[Clip], annotator: str = "sfm") -> Path:
    """An annotated shard of these clips, and a table that accepts them."""
    (folder / "arrays").mkdir(parents=True)
    rows, arrays = [], {}
    for clip in clips:
        arrays[clip.name] = folder / "arrays" / f"{clip.name}.safetensors"
        save_arrays(arrays[clip.name], clip.name, clip_arrays(clip))
        rows.append(clip_row(clip, SHARD, sha256=f"digest-{clip.name}", annotator=annotator))
    write_annotated(folder / "annotated", SHARD, rows, arrays)
    pd.DataFrame([{"name": clip.name, "shard": SHARD, "accepted": True} for clip in clips]).to_parquet(
        folder / "curated.parquet"
    )
    return folder


def with_hole(clip: Clip) -> Clip:
    """The clip without depth in a block of pixels, at confidence 0.5 elsewhere."""
    depth, confidence = clip.depth.copy(), np.full(clip.depth.shape, 0.5, np.float32)
    depth[:, 16:40, 24:64], confidence[:, 16:40, 24:64] = np.nan, 0
    return replace(clip, name=f"{clip.name}-hole", depth=depth, confidence=confidence, video="v1")


def test_unknown_points_are_filled_for_the_vae_and_have_weight_zero(root, random_base, tmp_path):
    exact = next(iter_annotated(root / "annotated", SHARD))
    folder = annotated_with_holes(tmp_path, [exact, with_hole(exact)])
    latents = encode(folder, tmp_path / "latents", random_base)
    item_of = {item["name"]: item for item in LatentClips(latents)}
    assert "xyz_weight" not in item_of[exact.name]
    weight = item_of[f"{exact.name}-hole"]["xyz_weight"]
    cell = exact.height // weight.shape[1]
    inside = weight[:, 16 // cell : 40 // cell, 24 // cell : 64 // cell]
    assert inside.shape[1] > 0 and (inside == 0).all()
    share = 128 / 255  # confidence is stored in 8 bits
    assert weight[:, : 16 // cell].numpy() == pytest.approx(share)
    table = pd.read_parquet(latents / f"{SHARD}.parquet").set_index("name")
    assert table.loc[f"{exact.name}-hole", ["sha256", "video"]].tolist() == [f"digest-{exact.name}-hole", "v1"]
    assert table.loc[f"{exact.name}-hole", "valid_share"] == pytest.approx(1 - 24 * 40 / (64 * 96))


def test_what_is_stored_at_confidence_zero_does_not_change_the_latents(root, random_base, tmp_path):
    exact = next(iter_annotated(root / "annotated", SHARD))
    hole = with_hole(exact)
    invented = np.where(np.isnan(hole.depth), np.float32(900), hole.depth)
    other = replace(hole, depth=invented)
    folders = [annotated_with_holes(tmp_path / str(i), [clip]) for i, clip in enumerate((hole, other))]
    items = []
    for folder in folders:
        encode_shard(
            folder / "annotated", SHARD, folder / "curated.parquet", folder / "latents", model=str(random_base)
        )
        with safe_open(folder / "latents" / f"{SHARD}.safetensors", framework="pt") as file:
            items.append({key: file.get_tensor(f"{hole.name}/{key}") for key in ("xyz", "xyz_weight")})
    assert all(torch.equal(items[0][key], items[1][key]) for key in items[0])


def test_statistics_are_weighted(root, random_base, tmp_path):
    exact = next(iter_annotated(root / "annotated", SHARD))
    folder = annotated_with_holes(tmp_path, [with_hole(exact)])
    encode_shard(folder / "annotated", SHARD, folder / "curated.parquet", folder / "latents", model=str(random_base))
    mean = torch.tensor(estimate_statistics(folder / "latents").statistics.mean, dtype=torch.float64)
    with safe_open(folder / "latents" / f"{SHARD}.safetensors", framework="pt") as file:
        xyz, weight = (file.get_tensor(f"{exact.name}-hole/{key}").double() for key in ("xyz", "xyz_weight"))
    expected = (xyz * weight).sum(dim=(1, 2, 3)) / weight.sum()
    assert torch.allclose(mean, expected)
    assert not torch.allclose(mean, xyz.mean(dim=(1, 2, 3)), atol=1e-4)


def test_each_distinct_caption_is_encoded_once_per_shard(root, random_base, tmp_path, monkeypatch):
    exact = next(iter_annotated(root / "annotated", SHARD))
    clips = [replace(exact, name=f"clip-{i}", caption=["one", "one", "two"][i]) for i in range(3)]
    folder = annotated_with_holes(tmp_path, clips, annotator="exact")
    counted, encode_caption = [], Encoders.encode_caption

    def count(self, caption, name="caption"):
        counted.append(caption)
        return encode_caption(self, caption, name)

    monkeypatch.setattr(Encoders, "encode_caption", count)
    report = encode_shard(
        folder / "annotated", SHARD, folder / "curated.parquet", folder / "latents", model=str(random_base)
    )
    assert (report.done, sorted(counted)) == (3, ["one", "two"])
