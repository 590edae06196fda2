"""Locates the models that ship with the package."""

import os
from pathlib import Path

VARIABLE = "FOURDNEX_MODELS"
"""Environment variable that names a folder of models to use instead of the shipped ones."""
_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = (_PACKAGE / "pretrained_models", _PACKAGE.parent / "pretrained")
"""Package data of a wheel, and the folder in a checkout."""


def pretrained(name: str) -> Path:
    """Return the folder of model `name`.

    It is looked up in the folder that FOURDNEX_MODELS names; without the variable, in the package data of an
    installed wheel, then in `pretrained/` of the checkout.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    given = os.environ.get(VARIABLE)
    places = (Path(given).expanduser(),) if given else _SHIPPED
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise FileNotFoundError(f"model: {name} is not at {places[-1] / name}; set {VARIABLE} to the folder that holds it")
