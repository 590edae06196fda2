"""Results of commands as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fourdnex.commands.declaration import Result


@dataclass(frozen=True)
class Item:
    path: Path
    share: float


def test_results_become_plain_json():
    data = {"items": (Item(Path("a/b"), np.float32(0.5)),), "worst": float("nan"), 3: np.int64(4), "none": None}
    text = Result(data=data).to_json()
    expected = {"items": [{"path": "a/b", "share": 0.5}], "worst": None, "3": 4, "none": None}
    assert json.loads(text) == expected and "\n" not in text
