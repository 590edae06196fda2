"""Files that are identified by digests have the same bytes in every process, whatever freed memory contains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

KINDS = [
    "h264 clip",
    "h264 mp4",
    "ffv1 rgb",
    "ffv1 gray",
    "ffv1 gray16",
    "png",
    "png 16 bit",
    "parquet",
    "safetensors",
    "latents",
]

# Writes one file of each kind five times, with allocations of random sizes and contents in between; prints the digests.
ENCODE = """
import hashlib, json, sys
from pathlib import Path
import av, cv2, numpy as np, pandas as pd
from PIL import Image
import torch
from safetensors.numpy import save_file
from fourdnex.io.files import write_tensors
from fourdnex.io.video import write_video
from fourdnex.rendering import write_animation
from fourdnex.io.lossless_video import write_lossless

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0)
x, y = np.meshgrid(np.arange(98), np.arange(66))
wave = [128 + 90 * np.sin((x + 4 * t) / 9) * np.cos(y / 7) + noise.normal(0, 5, x.shape) for t in range(9)]
rgb = np.stack([np.stack([w, 255 - w, (x + 3 * t) % 256], -1) for t, w in enumerate(wave)])
rgb = rgb.clip(0, 255).astype(np.uint8)
codes = (rgb[..., 0].astype(np.uint16) << 8) | rgb[..., 1]
names, scores = [f"clip-{i}" for i in range(50)], np.linspace(0, 1, 50)
table = pd.DataFrame({"name": names, "score": scores, "tags": [["a", "b"]] * 50})


def write(kind, path):
    if kind == "h264 clip":
        write_video(path.with_suffix(".mkv"), rgb, fps=24)
        return path.with_suffix(".mkv").read_bytes()
    if kind == "h264 mp4":
        write_animation(path.with_suffix(".mp4"), rgb, fps=24)
        return path.with_suffix(".mp4").read_bytes()
    if kind.startswith("ffv1"):
        frames = {"ffv1 rgb": rgb, "ffv1 gray": rgb[..., 0], "ffv1 gray16": codes}[kind]
        write_lossless(path, frames)
    elif kind == "png":
        Image.fromarray(rgb[0]).save(path, "PNG")
    elif kind == "png 16 bit":
        path.write_bytes(cv2.imencode(".png", codes[0])[1].tobytes())
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind == "safetensors":
        save_file({"b": codes.astype(np.float32), "a": rgb}, path, metadata={"format": "pt"})
    elif kind == "latents":
        tensors = {"b": torch.from_numpy(codes.astype(np.float32)), "a": torch.from_numpy(rgb)}
        write_tensors(path, tensors, {key: key * 9 for key in ("encoding", "fingerprint", "failed", "ä")})
    return path.read_bytes()


garbage, found = np.random.default_rng(seed), {}
for kind in sys.argv[3:]:
    digests = set()
    for _ in range(5):
        blocks = [np.full(int(garbage.integers(100, 200_000)), garbage.integers(256), np.uint8) for _ in range(60)]
        del blocks[:: int(garbage.integers(2, 5))]
        digests.add(hashlib.sha256(write(kind, folder / "file")).hexdigest())
    found[kind] = sorted(digests)
print(json.dumps(found))
"""


def digests(folder: Path, seed: int, perturb: int) -> dict[str, list[str]]:
    """Digests of every kind of file from a new process whose freed memory is filled with `perturb`."""
    environment = os.environ | {"MALLOC_PERTURB_": str(perturb), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENCODE, str(folder), str(seed), *KINDS]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, list[str]]]:
    return [digests(tmp_path_factory.mktemp("bytes"), seed, perturb) for seed, perturb in ((1, 0), (2, 85), (3, 254))]


@pytest.mark.parametrize("kind", KINDS)
def test_freed_memory_does_not_change_the_bytes(found, kind):
    assert len({digest for process in found for digest in process[kind]}) == 1
