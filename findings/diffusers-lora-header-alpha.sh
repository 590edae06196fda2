#!/usr/bin/env bash
# diffusers reads a LoRA's alpha from the file's header only when it is given the path. Given the same file's tensors, as
# after load_file(), alpha falls back to the rank without a word: here the same LoRA acts at 1 instead of 8.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    diffusers==0.42.1 peft==0.21.2 transformers==5.23.0 accelerate==1.15.0 torch==2.13.0 safetensors==0.8.0 ftfy==6.3.1
cat > "$folder/load.py" <<'PYTHON'
import json, sys
import diffusers, peft, torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file

print(f"diffusers {diffusers.__version__}, peft {peft.__version__}")
torch.manual_seed(0)
first, second = torch.randn(2, 24), torch.randn(24, 2)
state = {"transformer.blocks.0.attn1.to_q.lora_A.weight": first, "transformer.blocks.0.attn1.to_q.lora_B.weight": second}
told = {"transformer.r": 2, "transformer.lora_alpha": 16, "transformer.target_modules": ["blocks.0.attn1.to_q"]}
file = f"{sys.argv[1]}/lora.safetensors"
save_file(state, file, {"format": "pt", "lora_adapter_metadata": json.dumps(told)})  # as diffusers' save_lora_weights

def acts_at(lora):
    size = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "ffn_dim": 32, "rope_max_seq_len": 32}
    channels = {"in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 16}
    pipeline = WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=UniPCMultistepScheduler(),
        transformer=WanTransformer3DModel(**size, **channels),
    )
    pipeline.load_lora_weights(lora)
    layer, x = pipeline.transformer.blocks[0].attn1.to_q, torch.randn(3, 24)
    return ((layer(x) - layer.base_layer(x)) / (x @ (second @ first).T)).median().item()

scales = acts_at(file), acts_at(load_file(file))
print(f"alpha 16, rank 2: expected 8; from the path {scales[0]:.3f}, from the file's tensors {scales[1]:.3f}")
assert abs(scales[0] - 8) < 1e-3 and abs(scales[1] - 1) < 1e-3
PYTHON
"$folder/venv/bin/python" "$folder/load.py" "$folder"
