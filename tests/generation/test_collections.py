"""Collections: every image ends as a complete scene or as a failure with the reason; no scene is generated twice."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image
from plyfile import PlyData

from fourdnex.generation.collection_records import scene_names
from fourdnex.generation.collections import generate_collection, generate_one
from fourdnex.io.files import read_json, write_json
from fourdnex.lineage import trace
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.scene import Scene4D
from fourdnex.workspace import Workspace

FILES = ["rgb.mkv", "depth.mkv", "cameras.json", "scene.json", "scene.rrd", "preview.png"]


def put_images(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        rng = np.random.default_rng(len(name) + ord(name[0]))
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / name)
    return folder


def contents(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_collection_with_bad_images(tmp_path, random_base):
    """One pass makes what can be made; a second makes nothing; a changed image is made again, and only it."""
    images = put_images(tmp_path / "in", "Küche mit Hund.png", "b.png", "b.jpg")
    (images / "text.jpg").write_text("no image")
    (images / "README.md").write_text("about these images")
    (images / ".hidden").write_text("")
    (images / "folder").mkdir()
    out = tmp_path / "out"

    def run():
        provenance = {"git_commit": "c0ffee", "adapter_digest": None}
        return generate_collection(images, out, model=str(random_base), num_inference_steps=1, provenance=provenance)

    report = run()
    assert (report.name, report.requested, report.done, report.cached) == ("out", 4, 3, 0)
    assert [file for file, _ in report.failed] == ["text.jpg"]
    assert report.failed[0][1].startswith("not an image")
    entry = json.loads((out / "failed.json").read_text())[0]
    assert (entry["file"], entry["reason"]) == report.failed[0]
    assert sorted(path.name for path in out.iterdir()) == [
        "Küche-mit-Hund", "b", "b-png", "collection.json", "failed.json",
    ]  # fmt: skip

    scene = Scene4D.load(out / "Küche-mit-Hund")
    assert scene.name == "Küche-mit-Hund" and scene.num_frames == 17
    assert scene.provenance["image"] == "Küche mit Hund.png"
    assert scene.provenance["git_commit"] == "c0ffee"
    assert len(scene.provenance["base_digest"]) == 64 and len(scene.provenance["image_sha256"]) == 64
    for name in FILES:
        assert (out / "b" / name).stat().st_size > 0
    clouds = sorted((out / "b" / "ply").glob("frame_*.ply"))
    assert len(clouds) == 17
    # As written by a run: readers stop at longer lines, and MeshLab shows y up.
    header = clouds[0].read_bytes().partition(b"end_header\n")[0].splitlines()
    assert max(map(len, header)) <= 200 and b"comment up y" in header
    assert len(PlyData.read(clouds[0])["vertex"].data) == len(Scene4D.load(out / "b").points(0)[0])

    before = contents(out / "b") | contents(out / "b-png")
    again = run()
    assert (again.requested, again.done, again.cached, again.failed) == (4, 0, 3, report.failed)
    assert contents(out / "b") | contents(out / "b-png") == before

    put_images(images, "zz.png")
    os.replace(images / "zz.png", images / "b.png")
    changed = run()
    assert (changed.done, changed.cached) == (1, 2)


def test_broken_links_are_listed_and_folders_are_told_of_or_taken(tmp_path, random_base):
    """Images of one name in several folders, a linked folder, and the scenes themselves within the collection."""
    settings = {"model": str(random_base), "num_inference_steps": 1}
    images = put_images(tmp_path / "in", "a.png")
    put_images(images / "day 1", "a.png", "b.png")
    put_images(tmp_path / "elsewhere", "c.png")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "gone.jpg").symlink_to("nowhere.jpg")
    out = images / "scenes"
    broken = (("gone.jpg", "broken link to nowhere.jpg"),)
    report = generate_collection(images, out, **settings)
    assert (report.requested, report.done, report.failed, report.left_out) == (2, 1, broken, 3)
    report = generate_collection(images, out, recursive=True, **settings)
    assert (report.requested, report.done, report.cached, report.failed, report.left_out) == (5, 3, 1, broken, 0)
    assert sorted(path.name for path in out.glob("*/")) == ["a", "day-1-a", "day-1-b", "linked-c"]
    for scene, image in (("day-1-a", "day 1/a.png"), ("linked-c", "linked/c.png")):
        assert Scene4D.load(out / scene).provenance["image"] == image
        links = trace(out / scene, root=tmp_path, workspace=Workspace(tmp_path / "workspace"))
        assert [link.found for link in links if link.kind == "image"] == [True]
    assert generate_collection(images, out, **settings).cached == 1
    assert len(list(out.glob("*/"))) == 4, "what is asked for without the folders does not remove their scenes"
    shutil.rmtree(images / "day 1")
    assert generate_collection(images, out, recursive=True, **settings).cached == 2
    assert sorted(path.name for path in out.glob("*/")) == ["a", "linked-c"]


def test_a_collection_of_folders_alone_says_so(tmp_path, random_base):
    put_images(tmp_path / "in", "a.png").rename(tmp_path / "day")
    (tmp_path / "in").mkdir()
    (tmp_path / "day").rename(tmp_path / "in" / "day")
    with pytest.raises(ValueError, match="in: no images in this folder; 1 in subfolders, which --recursive includes"):
        generate_collection(tmp_path / "in", tmp_path / "out", model=str(random_base))
    assert not (tmp_path / "out").exists()


def test_another_seed_makes_another_scene(tmp_path, random_base):
    images, out = put_images(tmp_path / "in", "a.png"), tmp_path / "out"
    settings = {"model": str(random_base), "num_inference_steps": 1}
    generate_collection(images, out, seed=1, **settings)
    first = Scene4D.load(out / "a")
    assert generate_collection(images, out, seed=2, **settings).done == 1
    second = Scene4D.load(out / "a")
    assert not np.array_equal(first.rgb, second.rgb)
    assert generate_collection(images, out, seed=1, **settings).done == 1
    assert np.array_equal(Scene4D.load(out / "a").rgb, first.rgb)


def test_a_scene_made_less_exactly_or_of_a_start_is_not_the_plain_one(tmp_path, random_base):
    images, out = put_images(tmp_path / "in", "a.png"), tmp_path / "out"
    settings = {"model": str(random_base), "num_inference_steps": 1}
    assert generate_collection(images, out, **settings, memory=MemorySettings(vae_tiling=True)).done == 1
    assert generate_collection(images, out, **settings).done == 1
    assert generate_collection(images, out, **settings, memory=MemorySettings(offload="all")).cached == 1
    scene = read_json(out / "a" / "scene.json")
    scene["provenance"]["geometry_sha256"] = "5eed"
    write_json(out / "a" / "scene.json", scene)
    assert generate_collection(images, out, **settings).done == 1


def test_a_full_disk_leaves_whole_scenes_only(tmp_path, random_base, monkeypatch):
    """The second scene does not fit; the first stays, nothing half-written is left, and the next pass goes on."""
    images, out = put_images(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    settings = {"model": str(random_base), "num_inference_steps": 1}
    save, saved = Scene4D.save, []

    def save_until_full(self, path):
        save(self, path)
        saved.append(self.name)
        if len(saved) == 2:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Scene4D, "save", save_until_full)
    with pytest.raises(OSError, match="No space left"):
        generate_collection(images, out, **settings)
    assert sorted(path.name for path in out.iterdir()) == ["a", "collection.json"]
    monkeypatch.setattr(Scene4D, "save", save)
    report = generate_collection(images, out, **settings)
    assert (report.done, report.cached) == (1, 1)


def test_empty_and_missing_collections_are_refused(tmp_path, random_base):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="no images"):
        generate_collection(tmp_path / "in", tmp_path / "out", model=str(random_base))
    with pytest.raises(FileNotFoundError, match="expected a folder of images"):
        generate_collection(tmp_path / "none", tmp_path / "out", model=str(random_base))
    assert not (tmp_path / "out").exists()


def test_two_collections_of_one_name_do_not_overwrite_each_other(tmp_path, random_base):
    settings = {"model": str(random_base), "num_inference_steps": 1}
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    first = put_images(tmp_path / "x" / "trip", "a.png")
    second = put_images(tmp_path / "y" / "trip", "bb.png")
    os.replace(second / "bb.png", second / "a.png")
    out = tmp_path / "out" / "trip"
    generate_collection(first, out, **settings)
    with pytest.raises(ValueError, match="scenes of another collection"):
        generate_collection(second, out, **settings)
    moved = tmp_path / "moved"
    first.rename(moved)
    assert generate_collection(moved, out, **settings).cached == 1


def test_a_scene_goes_with_its_image_and_stays_beside_another_collection(tmp_path, random_base):
    settings, out = {"model": str(random_base), "num_inference_steps": 1}, tmp_path / "out"
    first, second = put_images(tmp_path / "x", "a.png", "b.png"), put_images(tmp_path / "y", "cc.png")
    (first / "text.png").write_text("no image")
    generate_collection(first, out, **settings)
    assert generate_collection(second, out, **settings).done == 1
    (out / "text").mkdir()
    (out / "text" / "thesis.txt").write_text("years of work")
    for name in ("a.png", "text.png"):
        (first / name).unlink()
    report = generate_collection(first, out, **settings)
    assert (report.requested, report.done, report.cached) == (1, 0, 1)
    assert sorted(path.name for path in out.glob("*/")) == ["b", "cc", "text"]
    assert (out / "text" / "thesis.txt").is_file()
    for scene, image in (("b", first / "b.png"), ("cc", second / "cc.png")):
        links = trace(out / scene, root=tmp_path, workspace=Workspace(tmp_path / "workspace"))
        assert [link.location for link in links if link.kind == "image" and link.found] == [str(image)]


def test_no_scene_of_a_former_image_stands_for_one_that_gives_none(tmp_path, random_base):
    """`a.jpg` goes and `a.png`, whose scene has its name now, is damaged; `b.png` is overwritten by a damaged file."""
    settings, out = {"model": str(random_base), "num_inference_steps": 1}, tmp_path / "out"
    images = put_images(tmp_path / "in", "a.jpg", "b.png")
    generate_collection(images, out, **settings)
    (images / "a.jpg").unlink()
    for name in ("a.png", "b.png"):
        (images / name).write_text("no image")
    shutil.copytree(out / "b", tmp_path / "b")
    report = generate_collection(images, out, **settings)
    assert (report.done, len(report.failed)) == (0, 2)
    assert sorted(path.name for path in out.iterdir()) == ["collection.json", "failed.json"]
    (tmp_path / "b").rename(out / "b")  # as a pass that was killed leaves it
    assert generate_collection(images, out, **settings).failed == report.failed
    assert not (out / "b").exists()


def test_other_content_is_kept_and_its_image_fails(tmp_path, random_base):
    """In place of the scenes of `data.png` and `notes.png` lie a folder and a file that nobody asked to replace."""
    images, out = put_images(tmp_path / "in", "a.png", "data.png", "notes.png"), tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data" / "thesis.txt").write_text("years of work")
    (out / "notes").write_text("a file")
    (out / ".notes.tmp").write_text("somebody's own")
    os.utime(out / ".notes.tmp", (0, 0))
    report = generate_collection(images, out, model=str(random_base), num_inference_steps=1)
    expected = "expected nothing, an empty folder or a scene to replace"
    assert report.done == 1
    assert report.failed == tuple((f"{name}.png", f"{out / name}: {expected}") for name in ("data", "notes"))
    assert (out / "data" / "thesis.txt").read_text() == "years of work"
    assert (out / "notes").is_file() and (out / ".notes.tmp").is_file()
    (out / "data" / "thesis.txt").unlink()
    assert generate_collection(images, out, model=str(random_base), num_inference_steps=1).done == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_write_permission(tmp_path, random_base):
    images = put_images(tmp_path / "in", "a.png")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        generate_collection(images, tmp_path / "closed" / "out", model=str(random_base))


def test_output_that_is_a_file_is_refused(tmp_path, random_base):
    images = put_images(tmp_path / "in", "a.png")
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="out"):
        generate_collection(images, tmp_path / "out", model=str(random_base))


def test_scene_names_are_safe_and_different():
    names = scene_names(["a.jpg", "a.png", "A.JPG", "....jpg", " .jpg", "failed.json.jpg", "x/../y.png", "Ü ß.webp"])
    assert names["A.JPG"] == "A"  # capitals come first in the order of names
    assert names["a.jpg"] == "a-jpg" and names["a.png"] == "a-png"
    assert names["Ü ß.webp"] == "Ü-ß"
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(name not in (".", "..", "") and "/" not in name and not name.startswith(".") for name in names.values())
    assert "failed.json" not in names.values()
    nested = scene_names(["day 1/a.jpg", "day-1-a.jpg", "a.jpg"])
    assert list(nested.values()) == ["a", "day-1-a", "day-1-a-jpg"]
    (long,) = scene_names(["ä" * 120 + ".jpg"]).values()
    assert len(long.encode()) <= 120


def test_composed_and_decomposed_letters_are_one_name():
    names = scene_names(["u\u0308.jpg", "\u00fc.jpg"])
    assert len(set(names.values())) == 2


def test_adapter_base_and_commit_are_resolved_once(random_base, tmp_path, monkeypatch):
    """Reading an adapter, hashing its weights, resolving a preset and running git take time on large models."""
    from collections import Counter

    from fourdnex import identity
    from fourdnex.model import adapter_files, base
    from fourdnex.model.adapter import AdapterInfo, adapter_state, add_lora, save_adapter
    from fourdnex.model.transformer import SixDTransformer

    torch.manual_seed(0)
    wan = WanTransformer3DModel.from_pretrained(random_base, subfolder="transformer")
    transformer = SixDTransformer.from_base(wan)
    add_lora(transformer, rank=1, alpha=1.0)
    adapter = tmp_path / "adapter"
    digest = base.base_digest(str(random_base))
    info = AdapterInfo(rank=1, alpha=1.0, base_digest=digest, num_frames=17, height=64, width=96)
    save_adapter(adapter, adapter_state(transformer), info)
    calls: Counter[str] = Counter()

    def count(module, name):
        function = getattr(module, name)

        def counted(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    for module, name in (
        (adapter_files, "read_adapter_info"),
        (adapter_files, "adapter_digest"),
        (base, "get_preset"),
        (identity, "git_commit"),
    ):
        count(module, name)
    image = put_images(tmp_path / "in", "a.png") / "a.png"
    assert generate_one(image, tmp_path / "scene", model=str(random_base), adapter=adapter, num_inference_steps=1)
    assert calls == {"read_adapter_info": 1, "adapter_digest": 1, "get_preset": 1, "git_commit": 1}
