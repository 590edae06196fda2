"""Public names of `fourdnex.model`, and the deprecated alias of `load_reference_weights`."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import fourdnex.model
from fourdnex.model import SixDTransformer, load_upstream_weights

GOLDEN = Path(__file__).parent.parent / "golden"


def test_public_names_are_importable():
    for name in fourdnex.model.__all__:
        assert getattr(fourdnex.model, name).__name__ == name


def test_load_upstream_weights_warns_and_loads_reference_weights():
    model = SixDTransformer(**json.loads((GOLDEN / "transformer_config.json").read_text()))
    state = load_file(GOLDEN / "transformer_weights.safetensors")
    with pytest.warns(DeprecationWarning, match="use load_reference_weights"):
        load_upstream_weights(model, state)
    assert model.domain_embeddings.equal(state["learnable_domain_embeddings"])
