"""Captions: which text is whose, in which order, and what is said of those that cannot be used."""

import codecs
import json

import numpy as np
import pytest
from PIL import Image

from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.captions import describe_camera_motion
from fourdnex.generation.camera_captions import camera_sentence, mentions_content, with_camera
from fourdnex.generation.caption_sources import DEFAULT_PROMPT, CaptionSources
from fourdnex.generation.captions import find_captions
from fourdnex.generation.collections import generate_collection
from fourdnex.generation.image_listing import list_captions, list_images
from fourdnex.generation.scenes import Failure, generate_each
from fourdnex.scene import Scene4D


@pytest.fixture
def folder(tmp_path):
    """Images in all but their content."""
    folder = tmp_path / "in"
    (folder / "day 1").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "u\u0308.png", "day 1/a.jpg"):
        (folder / name).touch()
    return folder


def found(folder, **options):
    return find_captions(folder, list_images(folder, recursive=True), **options)


def test_text_beside_an_image_is_its_caption_and_no_image(folder):
    (folder / "a.txt").write_text("A red\n  box. ")
    (folder / "b.txt").write_text(" \n")
    (folder / "c.txt").write_text("of nothing")
    (folder / "captions.csv").write_text("image,prompt\n")
    assert [path.name for path in list_images(folder)] == ["a.jpg", "b.png", "c.txt", "u\u0308.png"]
    assert [path.name for path in list_captions(folder)] == ["a.txt", "b.txt", "captions.csv"]
    assert found(folder).texts == {"a.jpg": "A red box."}, "empty text is no caption"


@pytest.mark.parametrize(
    "data",
    [
        "Grüße".encode(),
        codecs.BOM_UTF8 + "Grüße".encode(),
        codecs.BOM_UTF16_LE + "Grüße".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "Grüße".encode("utf-16-be"),
    ],
)
def test_encodings_of_text(folder, data):
    (folder / "a.txt").write_bytes(data)
    assert found(folder).texts == {"a.jpg": "Grüße"}


def test_another_encoding_is_told_of_one_image_alone(folder):
    (folder / "a.txt").write_bytes("Grüße".encode("latin-1"))
    (folder / "b.txt").write_bytes(b"x" * 70_000)
    (folder / "day 1/a.txt").write_text("fine")
    captions = found(folder)
    assert captions.errors["a.jpg"].startswith("caption: a.txt: expected UTF-8, got")
    assert captions.errors["b.png"] == "caption: b.txt: expected a caption of at most 65,536 bytes, got 70,000"
    assert captions.texts == {"day 1/a.jpg": "fine"}
    with pytest.raises(ValueError, match=r"a\.txt: expected UTF-8"):
        CaptionSources().provenance(captions, DEFAULT_PROMPT)("a.jpg")


CSV = 'image,prompt\na.jpg,"A box, red."\nday 1/a.jpg,Day\nb,No suffix\n\u00fc.png,Umlaut\nnone.jpg,Nothing\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", CSV),
        ("captions.csv", CSV.replace("image,prompt", "Image,Caption").replace("\n", "\r\n")),
        ("mine.csv", CSV.replace(",", ";").replace("box; red", "box, red")),
        ("mine.tsv", CSV.replace(",", "\t").replace("box\t red", "box, red")),
        (
            "captions.jsonl",
            '{"file": "a.jpg", "prompt": "A box, red."}\n{"file": "./day 1/a.jpg", "prompt": "Day"}\n'
            '{"file": "b", "prompt": "No suffix"}\n{"file": "\u00fc.png", "prompt": "Umlaut"}\n'
            '{"file": "none.jpg", "prompt": "Nothing"}\n',
        ),
    ],
)
def test_tables_of_captions(folder, tmp_path, name, text):
    place = folder if name.startswith("captions") else tmp_path
    (place / name).write_text(text, encoding="utf-8")
    (folder / "a.txt").write_text("the table goes before this")
    captions = found(folder, table=None if place == folder else place / name)
    expected = {"a.jpg": "A box, red.", "day 1/a.jpg": "Day", "b.png": "No suffix", "u\u0308.png": "Umlaut"}
    assert captions.texts == expected
    line = 5 if name.endswith("jsonl") else 6
    assert captions.unmatched == (f"{place / name}, line {line}: there is no image 'none.jpg'",)


def test_an_empty_line_of_a_table_says_nothing(folder):
    (folder / "captions.csv").write_text("image,prompt\na.jpg,\nb.png, \n")
    (folder / "a.txt").write_text("beside it")
    assert found(folder).texts == {"a.jpg": "beside it"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "image,prompt\na.jpg,x\nb,y\na,z\n", r"c.csv, line 4: .*c.csv, line 2 captions 'a.jpg' too"),
        ("c.csv", "name,prompt\na.jpg,x\n", "line 1: expected a column image or file, got name, prompt"),
        ("c.csv", "image,prompt\na.jpg,red, blue\n", "line 2: expected 2 values; text with ',' needs quotes, got 3"),
        ("c.csv", 'image,prompt\na.jpg,"red\n', "expected CSV"),
        ("c.jsonl", '{"image": "a.jpg"}', r"c.jsonl, line 1: expected prompt or caption, got image"),
        ("c.jsonl", '\n{"image": "a.jpg", "prompt": 3}', "line 2: expected text in prompt or caption, got 3"),
        ("c.jsonl", "[1]", r"line 1: expected a JSON object, got \[1\]"),
        ("c.jsonl", "{", "line 1: expected a JSON object"),
        ("c.xlsx", "", "expected a file NAME.csv, NAME.tsv or NAME.jsonl"),
    ],
)
def test_tables_that_cannot_be_read(folder, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        found(folder, table=tmp_path / name)


def test_two_tables_in_a_folder_and_none_where_one_is_named(folder, tmp_path):
    for name in ("captions.csv", "captions.jsonl"):
        (folder / name).write_text("image,prompt\n")
    with pytest.raises(ValueError, match=r"expected one table of captions, got captions\.csv and captions\.jsonl"):
        found(folder)
    with pytest.raises(FileNotFoundError):
        found(folder, table=tmp_path / "gone.csv")


def test_the_camera_goes_in_the_words_of_the_worlds():
    """Each way and pace against the caption of a world whose camera moves so; an orbit of positive amount goes left."""
    amounts = {"dolly": (1, "in", "out"), "truck": (1, "right", "left"), "pan": (1, "right", "left")}
    amounts["orbit"] = (1, "left", "right")
    for motion, (_, ahead, back) in amounts.items():
        for way, sign in ((ahead, 1), (back, -1)):
            for pace, amount in (("slowly", 0.1), ("quickly", 0.5)):
                path = CameraMotion(
                    focal=1, position=np.zeros(3), pitch=0, yaw=0, motion=motion, amount=sign * amount, distance=1
                )
                assert camera_sentence(f"{motion}-{way}", pace) == f"The camera {describe_camera_motion(path)}."
    assert camera_sentence("still") == "The camera stays still."
    path = CameraMotion(focal=1, position=np.zeros(3), pitch=0, yaw=0, motion="orbit", amount=0.3, distance=3)
    assert path.pose(np.array([0.0, 1.0]))[1, 0, 3] < -0.5, "left is negative x"


def test_the_camera_takes_the_place_of_what_a_caption_says_of_it():
    sentence = camera_sentence("dolly-in", "quickly")
    assert with_camera("", sentence) == "The camera dollies in quickly."
    assert with_camera("A cat", sentence) == "A cat. The camera dollies in quickly."
    assert with_camera("A cat! The camera orbits left slowly.", sentence) == "A cat! The camera dollies in quickly."
    assert with_camera("the camera pans. A cat.", sentence) == "A cat. The camera dollies in quickly."
    with pytest.raises(ValueError, match=r"camera: expected one of orbit-left, .*, got 'zoom'"):
        camera_sentence("zoom")
    with pytest.raises(ValueError, match="camera_pace: expected one of slowly, steadily, quickly, got 'fast'"):
        camera_sentence("still", "fast")


def test_an_image_is_made_again_when_its_own_caption_changes(tmp_path, random_base):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / name)
    (folder / "a.txt").write_text("A red box")
    (folder / "b.txt").write_text("word " * 600)
    (folder / "c.txt").write_text("of nothing")
    way = {"model": str(random_base), "num_inference_steps": 1, "ensemble_size": 1}
    report = generate_collection(folder, out, **way)
    reasons = dict(report.failed)
    assert report.done == 1 and reasons["c.txt"] == "a caption without an image of this name"
    assert reasons["b.png"].startswith("prompt: expected at most 512 tokens")
    assert Scene4D.load(out / "a").provenance["prompt"] == "A red box"
    (folder / "b.txt").unlink()
    (folder / "captions.csv").write_text("image,prompt\nz.png,Nothing\n")
    report = generate_collection(folder, out, **way)
    assert (report.done, report.cached, len(report.unmatched)) == (1, 1, 1)
    assert Scene4D.load(out / "b").provenance["prompt"] == DEFAULT_PROMPT
    (folder / "b.png").unlink()
    assert generate_collection(folder, out, camera="truck-left", **way).done == 1
    assert Scene4D.load(out / "a").provenance["prompt"] == "A red box. The camera trucks left slowly."
    assert generate_collection(folder, out, camera="truck-left", prompt="unused", **way).cached == 1


def test_a_prompt_that_is_too_long_stops_no_other_image(random_base):
    images = [np.zeros((64, 96, 3), np.uint8)] * 2
    results = list(
        generate_each(
            images, model=random_base, prompts=["word " * 600, "A cat"], camera="still", num_inference_steps=1
        )
    )
    assert isinstance(results[0], Failure) and "expected at most 512 tokens" in results[0].reason
    assert "tokens" not in getattr(results[1], "reason", "")
    with pytest.raises(ValueError, match="expected at most 512 tokens"):
        next(generate_each(images, model=random_base, prompts="word " * 600))


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    """BLIP of tiny size and random weights, with a vocabulary of a few words."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        set_seed,
    )

    folder = tmp_path_factory.mktemp("captioner")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a red box and cat on the floor".split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    marks = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    set_seed(0)
    config = BlipConfig(
        text_config=small | marks | {"vocab_size": len(words), "encoder_hidden_size": 16},
        vision_config=small | {"image_size": 32, "patch_size": 16},
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(processor, BertTokenizerFast(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def test_a_network_captions_what_has_no_caption(tmp_path, random_base, captioner):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / name)
    (folder / "a.txt").write_text("A red box")
    way = {"model": str(random_base), "num_inference_steps": 1, "ensemble_size": 1, "captioner": captioner}
    assert generate_collection(folder, out, **way).done == 2
    own, found = (json.loads((out / name / "scene.json").read_text())["provenance"] for name in ("a", "b"))
    assert own["prompt"] == "A red box" and "captioner" not in own
    assert len(found["captioner"]) == 16 and found["prompt"].endswith(f". {DEFAULT_PROMPT}")
    words = found["prompt"].removesuffix(f". {DEFAULT_PROMPT}").split()
    assert words and set(words) <= set("a red box and cat on the floor".split())
    assert generate_collection(folder, out, **way).cached == 2
    del way["captioner"]
    assert generate_collection(folder, out, **way).done == 1


def test_what_is_no_captioner_is_refused(tmp_path, captioner):
    import shutil

    from fourdnex.generation.captioner import Captioner

    with pytest.raises(FileNotFoundError, match=r"expected a folder with config\.json; nothing is downloaded"):
        Captioner("Salesforce/blip-image-captioning-base")
    shutil.copytree(captioner, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="expected an image-to-text model of transformers with safetensors weights"):
        Captioner(tmp_path / "pickled")
    with pytest.raises(ValueError, match="captioner: expected no prompt besides"):
        CaptionSources(prompt="all", captioner=captioner)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("The camera orbits right slowly.", False),
        ("", False),
        ("A red box slides left. The camera stays still.", True),
        ("a cat", True),
    ],
)
def test_whether_a_caption_tells_of_more_than_the_camera(caption, expected):
    assert mentions_content(caption) is expected
