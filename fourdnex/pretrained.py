"""Where the models lie that come with this repository."""

import os
from pathlib import Path

VARIABLE = "FOURDNEX_MODELS"


def pretrained(name: str) -> Path:
    """The folder of model `name` within the one that FOURDNEX_MODELS names, else within the repository's.

    Raises:
        FileNotFoundError: it is not there.
    """
    models = os.environ.get(VARIABLE) or Path(__file__).resolve().parents[1] / "pretrained"
    folder = Path(models).expanduser() / name
    if not folder.is_dir():
        raise FileNotFoundError(f"model: {name} is not at {folder}; set {VARIABLE} to the folder that holds it")
    return folder
