"""What the tiny base makes of a first frame and a caption, in one step from pure noise: `python -m benchmarks.caption_conditioning`

The error is that of the predicted RGB latents, as a share of their variance over the held-out worlds. Where turning the
camera's words round costs nothing, the base does not hear them. The baseline is the first frame held still, encoded.
"""

import argparse

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline

from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.model.conditioning import guided_mask
from fourdnex.model.presets import get_preset

BATCH = 16
OPPOSITES = {"left": "right", "right": "left", "in": "out", "out": "in"}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument("--worlds", type=int, default=64, help="how many held-out worlds (default 64)")
    options = parser.parse_args()
    preset = get_preset(options.model)
    pipeline = WanImageToVideoPipeline.from_pretrained(preset.location, dtype=torch.float32)
    codec = LatentCodec(pipeline.vae, REFERENCE_STATISTICS)
    clips = [render_world(seed) for seed in HELD_OUT_SEEDS[: options.worlds]]
    truth = torch.cat([codec.encode(_pixels(clip.rgb), "rgb") for clip in clips])
    condition = torch.cat([codec.encode_condition(_pixels(clip.rgb)[:, :, 0], clip.num_frames) for clip in clips])
    still = torch.cat([codec.encode(_pixels(clip.rgb[[0] * clip.num_frames]), "rgb") for clip in clips])
    prompts = {
        "its caption": [clip.caption for clip in clips],
        "its camera turned round": [turned_round(clip.caption) for clip in clips],
        "the caption of another world": [clip.caption for clip in clips[1:] + clips[:1]],
        "no caption": ["" for _ in clips],
    }
    predictions = {name: _predicted(pipeline, condition, texts, clips) for name, texts in prompts.items()}
    moves = torch.tensor(["camera-still" not in clip.tags for clip in clips])
    rows = []
    for name, latents in {"first frame held still": still, **predictions}.items():
        errors = (latents - truth)[:, :, 1:].square().mean(dim=(1, 2, 3, 4)) / truth[:, :, 1:].var()
        rows.append((name, errors.mean().item(), errors[~moves].mean().item(), errors[moves].mean().item()))
    print_table(
        f"One step of {preset.name} from pure noise, {len(clips)} held-out worlds",
        ("told", "error, all", "camera stands still", "camera moves"),
        rows,
        notes=[f"The camera moves in {int(moves.sum())} of them. The first latent frame, which is given, is left out."],
        packages=("torch", "diffusers", "transformers"),
    )


def turned_round(caption: str) -> str:
    """The caption with the camera going the other way."""
    start = caption.index("The camera")
    words = caption[start:].rstrip(".").split()
    return caption[:start] + " ".join(OPPOSITES.get(word, word) for word in words) + "."


def _predicted(
    pipeline: WanImageToVideoPipeline, condition: torch.Tensor, prompts: list[str], clips: list[Clip]
) -> torch.Tensor:
    """Latents [N, 16, F, h, w] where the velocity at noise level 1 points."""
    noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(0))
    channels = torch.cat([noise, guided_mask(condition, 1.0), condition], dim=1)
    text, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=512)
    image = pipeline.encode_image([clip.rgb[0] for clip in clips])
    found = []
    for start in range(0, len(prompts), BATCH):
        part = slice(start, start + BATCH)
        times = torch.full((len(channels[part]),), 1000.0)
        found.append(noise[part] - pipeline.transformer(channels[part], times, text[part], image[part]).sample)
    return torch.cat(found)


def _pixels(rgb: np.ndarray) -> torch.Tensor:
    """[T, H, W, 3] uint8 to [1, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(rgb / np.float32(127.5) - 1).permute(3, 0, 1, 2)[None]


if __name__ == "__main__":
    main()
