"""Numerical difference from the reference implementation: `python -m benchmarks.reference_parity`

Compares `SixDTransformer` and the sloped plane with recorded outputs of the reference implementation. The baseline is
diffusers' Wan transformer with the same weights, without shared positions and domain embeddings.
"""

import json
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from benchmarks.measuring import time_work
from benchmarks.reporting import argument_parser, print_table
from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.checkpoint_conversion import REFERENCE_DOMAIN_KEY, load_reference_weights
from fourdnex.model.transformer import SixDTransformer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
REPEATS = 15


def main() -> None:
    """Run both transformers on the recorded inputs and print one row each."""
    argument_parser(__doc__).parse_args()
    config = json.loads((GOLDEN / "transformer_config.json").read_text())
    weights = load_file(GOLDEN / "transformer_weights.safetensors")
    golden = load_file(GOLDEN / "transformer_io.safetensors")
    plain = WanTransformer3DModel(**config).eval()
    plain.load_state_dict({key: value for key, value in weights.items() if key != REFERENCE_DOMAIN_KEY})
    six_d = SixDTransformer(fusion="width", **config).eval()
    load_reference_weights(six_d, weights)
    rows = []
    for name, model in (("diffusers' Wan transformer", plain), ("SixDTransformer", six_d)):
        sample, milliseconds = _run(model, golden)
        rows.append((name, f"{(sample - golden['sample']).abs().max():.2e}", milliseconds))
    unit = load_file(GOLDEN / "uniform_pointmap.safetensors")["uniform_pointmap"]
    rows.append(("sloped_plane", f"{_plane_difference(unit):.2e}", None))
    print_table(
        "Difference from the reference implementation (target: below 1e-5)",
        ("computation", "largest difference", "median ms per pass"),
        rows,
        packages=("torch", "diffusers"),
    )


@torch.no_grad()
def _run(model: torch.nn.Module, golden: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Output of a forward pass, and its median time in milliseconds."""

    def forward() -> torch.Tensor:
        sample: torch.Tensor = model(
            golden["hidden_states"],
            timestep=golden["timestep"],
            encoder_hidden_states=golden["encoder_hidden_states"],
            encoder_hidden_states_image=golden["encoder_hidden_states_image"],
        ).sample
        return sample

    return forward(), 1000 * time_work(forward, repeats=REPEATS).wall


def _plane_difference(unit: torch.Tensor) -> float:
    """Largest difference of `sloped_plane` from the reference plane `unit` [H, W, 3] in [0, 1]."""
    plane = torch.from_numpy(sloped_plane(*unit.shape[:2]))
    return float((unit * 2 - 1 - plane).abs().max())


if __name__ == "__main__":
    main()
