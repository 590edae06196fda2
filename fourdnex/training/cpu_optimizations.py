"""Optimizations of a training step on the CPU, with the same result up to rounding.

A small model spends most of its time on the CPU in many small operations. Attention has faster implementations
(`fourdnex.model.attention_processors`). LoRA has one too (`merge_narrow_lora`): if the matrices are not much narrower
than the layer, one product with W + s·B·A costs less than three thin products and their gradients.
"""

from __future__ import annotations

from diffusers import WanTransformer3DModel
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from fourdnex.model.attention_processors import use_fast_cpu_attention
from fourdnex.model.bfloat_linear import merge_lora, use_bfloat16


def apply_cpu_optimizations(transformer: WanTransformer3DModel, *, bfloat16: bool = False) -> None:
    """Optimize a transformer with LoRA for training on the CPU, in place; the keys of its state do not change.

    `bfloat16` computes matrix products in bfloat16, with the rounding errors of bfloat16.
    """
    if bfloat16:
        use_bfloat16(transformer)
    merge_narrow_lora(transformer)
    use_fast_cpu_attention(transformer, bfloat16=bfloat16)


def merge_narrow_lora(transformer: nn.Module) -> None:
    """Compute LoRA layers as one product with W + s·B·A if that takes fewer operations, in place.

    For T tokens, thin products take 6·T·r·(i + o) operations forward and backward; the merged weight and its gradient
    take 2·T·i·o, plus 6·r·i·o, which is negligible for many tokens. Merging is faster if i·o < 3·r·(i + o).
    """
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            rank = module.r[module.active_adapters[0]]
            if module.in_features * module.out_features < 3 * rank * (module.in_features + module.out_features):
                merge_lora(module)
