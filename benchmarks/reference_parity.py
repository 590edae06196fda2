"""How far our 6D transformer is from the public code's numbers: `python -m benchmarks.reference_parity`

The baseline is diffusers' own Wan transformer with the same weights: what one gets without shared positions and domain
embeddings.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from benchmarks.reporting import print_table
from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.checkpoint_conversion import REFERENCE_DOMAIN_KEY, load_reference_weights
from fourdnex.model.transformer import SixDTransformer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
REPEATS = 15


def main() -> None:
    config = json.loads((GOLDEN / "transformer_config.json").read_text())
    weights = load_file(GOLDEN / "transformer_weights.safetensors")
    golden = load_file(GOLDEN / "transformer_io.safetensors")
    plain = WanTransformer3DModel(**config).eval()
    plain.load_state_dict({key: value for key, value in weights.items() if key != REFERENCE_DOMAIN_KEY})
    ours = SixDTransformer(fusion="width", **config).eval()
    load_reference_weights(ours, weights)
    rows = []
    for name, model in (("diffusers' Wan transformer", plain), ("SixDTransformer", ours)):
        sample, milliseconds = _run(model, golden)
        rows.append((name, f"{(sample - golden['sample']).abs().max():.2e}", milliseconds))
    unit = load_file(GOLDEN / "uniform_pointmap.safetensors")["uniform_pointmap"]
    rows.append(("sloped_plane", f"{_plane_difference(unit):.2e}", None))
    print_table(
        "Against the public code's numbers (bar: below 1e-5)",
        ("computation", "largest difference", "median ms a pass"),
        rows,
        packages=("torch", "diffusers"),
    )


@torch.no_grad()
def _run(model: torch.nn.Module, golden: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        sample = model(
            golden["hidden_states"],
            timestep=golden["timestep"],
            encoder_hidden_states=golden["encoder_hidden_states"],
            encoder_hidden_states_image=golden["encoder_hidden_states_image"],
        ).sample
        times.append(1000 * (time.perf_counter() - started))
    return sample, statistics.median(times)


def _plane_difference(unit: torch.Tensor) -> float:
    """`unit` is the public code's plane [H, W, 3] in [0, 1]."""
    plane = torch.from_numpy(sloped_plane(*unit.shape[:2]))
    return float((unit * 2 - 1 - plane).abs().max())


if __name__ == "__main__":
    main()
