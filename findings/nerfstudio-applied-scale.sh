#!/usr/bin/env bash
# nerfstudio: applied_scale in transforms.json multiplies depth pictures (and points), but not the cameras, so that they no
# longer fit each other; depth_unit_scale_factor in the same file is not read at all, only as an option of the parser.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
# What nerfstudio's parser imports, then nerfstudio without the rest of its packages.
venv/bin/pip install --quiet torch==2.13.0 numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93 \
    jaxtyping==0.2.36 tyro==0.9.35 rich==14.3.3 viser==1.1.1 tensorboard==2.21.0
venv/bin/pip install --quiet --no-deps nerfstudio==1.1.5
venv/bin/python - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.depth_dataset import DepthDataset

# Two cameras, 4 apart in the file's world; a wall 1 unit in front of them: 1000 in millimetres, nerfstudio's unit.
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("a.png")
Image.fromarray(np.full((8, 8), 1000, np.uint16)).save("depth.png")
poses = np.tile(np.eye(4), (2, 1, 1))
poses[1, 0, 3] = 4
frame = {"file_path": "a.png", "depth_file_path": "depth.png"}
frames = [{**frame, "transform_matrix": pose.tolist()} for pose in poses]
lens = {"camera_model": "OPENCV", "w": 8, "h": 8, "fl_x": 8, "fl_y": 8, "cx": 4, "cy": 4}


def read(**fields):
    Path("transforms.json").write_text(json.dumps({**lens, **fields, "frames": frames}))
    as_they_are = dict(orientation_method="none", center_method="none", auto_scale_poses=False, eval_mode="all")
    outputs = NerfstudioDataParserConfig(data=Path("."), **as_they_are).setup().get_dataparser_outputs("train")
    distance = outputs.cameras.camera_to_worlds[:, 0, 3].diff().item()
    return distance, DepthDataset(outputs)[0]["depth_image"].mean().item()


seen = {name: read(**fields) for name, fields in {
    "neither": {}, "applied_scale 2": {"applied_scale": 2}, "depth_unit_scale_factor 0.01": {"depth_unit_scale_factor": 0.01}
}.items()}
print(f"nerfstudio {version('nerfstudio')}: cameras 4 apart, depth 1000")
print("expected: with applied_scale 2 both distances times the same number; with a unit of 0.01 a depth of 10")
for name, (distance, depth) in seen.items():
    print(f"seen, {name}: cameras {distance:g} apart, depth {depth:g}")
as_now = {"neither": (4, 1), "applied_scale 2": (4, 2), "depth_unit_scale_factor 0.01": (4, 1)}
assert all(np.allclose(seen[name], as_now[name], rtol=1e-5) for name in as_now), "the behavior has changed"
PYTHON
