"""A quicker training step on the CPU, at the same numbers up to rounding.

A small model spends its time on the CPU in many operations of little work each. Attention has shorter ways
(`fourdnex.model.attention_processors`), and so has LoRA: where the matrices are not much thinner than the layer, one product
with W + s·B·A costs less than three thin ones and their gradients (`merge_narrow_lora`).
"""

from __future__ import annotations

from diffusers import WanTransformer3DModel
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from fourdnex.model.attention_processors import use_fast_cpu_attention
from fourdnex.model.bfloat_linear import merge_lora, use_bfloat16


def apply_cpu_optimizations(transformer: WanTransformer3DModel, *, bfloat16: bool = False) -> None:
    """Let `transformer`, with LoRA matrices on it, train by the shorter ways, in place; its state keeps its names.

    `bfloat16`: matrix products in bfloat16; then the numbers are not the same up to rounding in float32.
    """
    if bfloat16:
        use_bfloat16(transformer)
    merge_narrow_lora(transformer)
    use_fast_cpu_attention(transformer, bfloat16=bfloat16)


def merge_narrow_lora(transformer: nn.Module) -> None:
    """Compute LoRA layers as one product with W + s·B·A where that takes fewer operations, in place.

    For T tokens thin products take 6·T·r·(i + o) operations forward and backward, the merged weight and its gradient
    2·T·i·o (and 6·r·i·o, which many tokens outweigh): merged wins below 3·r·(i + o).
    """
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            rank = module.r[module.active_adapters[0]]
            if module.in_features * module.out_features < 3 * rank * (module.in_features + module.out_features):
                merge_lora(module)
