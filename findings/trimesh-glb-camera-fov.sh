#!/usr/bin/env bash
# trimesh: the horizontal field of view of a glTF camera is taken as aspectRatio * yfov. Angles do not scale so; tangents
# do: xfov = 2 atan(aspectRatio * tan(yfov / 2)).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet trimesh==5.2.0 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import base64, json, math, struct

import trimesh

# One triangle and a camera of 60 degrees from top to bottom, twice as wide as high.
positions = struct.pack("<9f", 0, 0, -5, 1, 0, -5, 0, 1, -5)
document = {
    "asset": {"version": "2.0"},
    "scene": 0,
    "scenes": [{"nodes": [0, 1]}],
    "nodes": [{"name": "eye", "camera": 0}, {"name": "triangle", "mesh": 0}],
    "cameras": [{"type": "perspective", "perspective": {"yfov": math.radians(60), "aspectRatio": 2, "znear": 0.1}}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    "accessors": [
        {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, -5], "max": [1, 1, -5]}
    ],
    "bufferViews": [{"buffer": 0, "byteLength": 36}],
    "buffers": [
        {"byteLength": 36, "uri": "data:application/octet-stream;base64," + base64.b64encode(positions).decode()}
    ],
}
with open("camera.gltf", "w") as file:
    json.dump(document, file)
found, vertical = trimesh.load_scene("camera.gltf").camera.fov
expected = math.degrees(2 * math.atan(2 * math.tan(math.radians(30))))
print(f"trimesh {trimesh.__version__}: camera of yfov 60 degrees and aspectRatio 2")
print(f"expected: {expected:.1f} x 60.0 degrees")
print(f"seen:     {found:.1f} x {vertical:.1f} degrees")
assert abs(vertical - 60) < 1e-3 and abs(found - 120) < 1e-3, "the behavior has changed"
PYTHON
