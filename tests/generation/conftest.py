"""A base model of the real classes at the smallest size, with random weights: it generates noise, in a second."""

import pytest


@pytest.fixture(scope="session")
def untrained_base(tmp_path_factory):
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel

    from fourdnex.training.pretrain_transformer import TRANSFORMER_CONFIG, Encoders
    from fourdnex.training.text import build_tokenizer

    torch.manual_seed(0)
    encoders = Encoders(build_tokenizer(20))
    small = {
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "added_kv_proj_dim": 48,
        "ffn_dim": 64,
    }
    pipeline = WanImageToVideoPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text,
        vae=AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0),
        image_processor=encoders.processor,
        image_encoder=encoders.image,
        transformer=WanTransformer3DModel(**(TRANSFORMER_CONFIG | small)),
    )
    folder = tmp_path_factory.mktemp("models") / "fourdnex-tiny-untrained"
    pipeline.save_pretrained(folder)
    return folder
