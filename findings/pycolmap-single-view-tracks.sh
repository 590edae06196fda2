#!/usr/bin/env bash
# pycolmap: a model with one single point that one image alone sees is read and written, but bundle_adjustment refuses all
# of it, and does not leave that point out. The same model without the point is adjusted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pycolmap==4.2.1 numpy==2.4.6
venv/bin/python - <<'PYTHON' 2>log || { cat log; exit 1; }
import numpy as np
import pycolmap

options = pycolmap.SyntheticDatasetOptions()
options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 5, 50
model = pycolmap.synthesize_dataset(options)
print(f"pycolmap {pycolmap.__version__}: 5 images, {model.num_points3D()} points, all seen by at least 2")
pycolmap.bundle_adjustment(model)
print("bundle_adjustment: done")
image = next(iter(model.images.values()))
free = next(i for i, point in enumerate(image.points2D) if not point.has_point3D())
track = pycolmap.Track()
track.add_element(image.image_id, free)
model.add_point3D(np.array([0.0, 0, 0]), track, np.zeros(3, np.uint8))
print("expected, with one point more, which one image sees: it is left out or fixed, and the rest is adjusted")
try:
    pycolmap.bundle_adjustment(model)
    said = ""
except ValueError as error:
    said = str(error)
print(f"seen: {said or 'adjusted'}")
assert "track.Length() > 1" in said, "the behavior has changed"
PYTHON
