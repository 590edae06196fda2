#!/usr/bin/env bash
# MeshLab (pymeshlab): a PLY header line of about 510 bytes or more makes the file unreadable ("Syntax error on header",
# or "Eof in header"), though the format has no limit. The line is a comment, which a reader has only to skip; plyfile
# writes and reads it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet pymeshlab==2025.7.post1 plyfile==1.1.5 numpy==2.4.6
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pymeshlab
from plyfile import PlyData, PlyElement

points = np.array([(1, 2, 3)], [("x", "f4"), ("y", "f4"), ("z", "f4")])
seen = {}
for size in (200, 500, 520, 1000):
    comment = "x" * (size - len("comment "))
    PlyData([PlyElement.describe(points, "vertex")], comments=[comment]).write("a.ply")
    assert PlyData.read("a.ply").comments == [comment]
    meshes = pymeshlab.MeshSet()
    try:
        meshes.load_new_mesh("a.ply")
        seen[size] = f"{meshes.current_mesh().vertex_number()} vertex"
    except pymeshlab.PyMeshLabException as error:
        seen[size] = str(error).strip().splitlines()[-1]
print(f"pymeshlab {version('pymeshlab')}: a file of one point with one comment line of so many bytes")
print("expected: 1 vertex each time, as plyfile reads it")
for size, text in seen.items():
    print(f"seen, {size:4d} bytes: {text}")
readable = [size for size, text in seen.items() if text == "1 vertex"]
assert readable == [200, 500], "the behavior has changed"
PYTHON
