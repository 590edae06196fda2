import numpy as np
import pytest

from fourdnex.rendering import DiffusersInpainter, OpenCVInpainter, inpainter


def test_hole_in_a_uniform_image_gets_its_color():
    image, depth = np.full((40, 60, 3), 90, np.uint8), np.full((40, 60), 3.0, np.float32)
    image[10:30, 20:40], depth[10:30, 20:40] = 255, np.inf
    filled = OpenCVInpainter()(image, depth)
    assert np.abs(filled.astype(int) - 90).max() <= 2


def test_foreground_does_not_bleed_into_the_hole():
    image, depth = np.zeros((32, 64, 3), np.uint8), np.full((32, 64), 8.0, np.float32)
    image[:, :30], depth[:, :30] = (250, 0, 0), 2.0
    image[:, 42:] = (0, 0, 250)
    depth[:, 30:42] = np.inf
    filled = OpenCVInpainter()(image, depth)
    assert (filled[:, 31:42, 2] > 200).all() and (filled[:, 31:42, 0] < 50).all()
    assert (filled[:, :30] == image[:, :30]).all() and (filled[:, 42:] == image[:, 42:]).all()


@pytest.mark.parametrize("depth", [2.0, np.inf])
def test_images_without_holes_or_without_pixels_are_unchanged(depth):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert (OpenCVInpainter()(image, np.full((9, 7), depth, np.float32)) == image).all()


def test_inpainter_names(tmp_path):
    assert inpainter("none") is None and isinstance(inpainter("opencv"), OpenCVInpainter)
    with pytest.raises(ValueError, match="'opencv', 'none' or a folder"):
        inpainter(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"model_index\.json"):
        inpainter(tmp_path)


@pytest.mark.slow
def test_diffusers_pipeline_fills_only_the_holes(tmp_path):
    tiny_pipeline(tmp_path / "pipeline")
    image = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    depth = np.ones((30, 44), np.float32)
    depth[5:20, 8:30] = np.inf
    fill = DiffusersInpainter(tmp_path / "pipeline", num_inference_steps=2)
    filled = fill(image, depth)
    assert filled.shape == image.shape and filled.dtype == np.uint8
    assert (filled[depth == 1] == image[depth == 1]).all()
    assert (filled[depth != 1] != image[depth != 1]).mean() > 0.9
    assert (fill(image, depth) == filled).all()  # the same seed for every image


def tiny_pipeline(folder):
    import json

    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abc"), *"abc", "ab</w>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    pipeline = StableDiffusionInpaintPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        unet=UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=8,
            in_channels=9,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            norm_num_groups=4,
            attention_head_dim=4,
        ),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
