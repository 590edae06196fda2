"""One-step prediction of a base model by caption: `python -m benchmarks.caption_conditioning`

The base predicts RGB latents in one step from pure noise, given the first frame and a caption. Errors are a share of
the variance of the latents over the held-out worlds. If reversing the camera motion in the caption does not increase
the error, the base does not respond to the caption. The baseline is the static first frame, encoded.
"""

import torch
from diffusers import WanImageToVideoPipeline

from benchmarks.fixtures import held_out_worlds, to_tensor
from benchmarks.reporting import add_model_option, argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec
from fourdnex.model.conditioning import guided_mask
from fourdnex.model.presets import get_preset

BATCH = 16
OPPOSITES = {"left": "right", "right": "left", "in": "out", "out": "in"}


@torch.inference_mode()
def main() -> None:
    """Predict all worlds with every kind of caption and print one row per kind."""
    parser = argument_parser(__doc__)
    add_model_option(parser)
    parser.add_argument("--worlds", type=int, default=64, help="number of held-out worlds (default: 64)")
    options = parser.parse_args()
    preset = get_preset(options.model)
    pipeline = WanImageToVideoPipeline.from_pretrained(preset.location, dtype=torch.float32)
    codec = LatentCodec(pipeline.vae, REFERENCE_STATISTICS)
    clips = held_out_worlds(options.worlds)
    truth = torch.cat([codec.encode(to_tensor(clip.rgb), "rgb") for clip in clips])
    condition = torch.cat([codec.encode_condition(to_tensor(clip.rgb)[:, :, 0], clip.num_frames) for clip in clips])
    static = torch.cat([codec.encode(to_tensor(clip.rgb[[0] * clip.num_frames]), "rgb") for clip in clips])
    prompts = {
        "own caption": [clip.caption for clip in clips],
        "own caption, camera motion reversed": [with_reversed_camera(clip.caption) for clip in clips],
        "caption of another world": [clip.caption for clip in clips[1:] + clips[:1]],
        "no caption": ["" for _ in clips],
    }
    predictions = {name: predict_latents(pipeline, condition, texts, clips) for name, texts in prompts.items()}
    moves = torch.tensor(["camera-still" not in clip.tags for clip in clips])
    rows = []
    for name, latents in {"static first frame": static, **predictions}.items():
        errors = (latents - truth)[:, :, 1:].square().mean(dim=(1, 2, 3, 4)) / truth[:, :, 1:].var()
        rows.append((name, errors.mean().item(), errors[~moves].mean().item(), errors[moves].mean().item()))
    print_table(
        f"One step of {preset.name} from pure noise, {len(clips)} held-out worlds",
        ("condition", "error, all", "static camera", "moving camera"),
        rows,
        notes=[
            f"The camera moves in {int(moves.sum())} worlds. Errors exclude the first latent frame, which is given."
        ],
        packages=("torch", "diffusers", "transformers"),
    )


def with_reversed_camera(caption: str) -> str:
    """The caption with the direction of its camera motion reversed."""
    start = caption.index("The camera")
    words = caption[start:].rstrip(".").split()
    return caption[:start] + " ".join(OPPOSITES.get(word, word) for word in words) + "."


def predict_latents(
    pipeline: WanImageToVideoPipeline, condition: torch.Tensor, prompts: list[str], clips: list[Clip]
) -> torch.Tensor:
    """Latents [N, 16, F, h, w] predicted from the velocity at noise level 1."""
    noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(0))
    channels = torch.cat([noise, guided_mask(condition, 1.0), condition], dim=1)
    text, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=512)
    image = pipeline.encode_image([clip.rgb[0] for clip in clips])
    predictions = []
    for start in range(0, len(prompts), BATCH):
        part = slice(start, start + BATCH)
        times = torch.full((len(channels[part]),), 1000.0)
        predictions.append(noise[part] - pipeline.transformer(channels[part], times, text[part], image[part]).sample)
    return torch.cat(predictions)


if __name__ == "__main__":
    main()
