#!/usr/bin/env bash
# Blender: of a UsdGeomPoints prim the importer keeps positions, widths, velocities and primvars, but drops `ids`, which
# say which point of one frame is which of another. What has to be told apart needs a primvar of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "bpy 4.5 needs Python 3.11"; exit 1; }
python3 -m venv venv
venv/bin/pip install --quiet bpy==4.5.15 numpy==1.26.4
cat > points.usda <<'USD'
#usda 1.0
(
    defaultPrim = "World"
    upAxis = "Z"
    metersPerUnit = 1
)
def Xform "World"
{
    def Points "points"
    {
        int64[] ids = [11, 22, 33]
        point3f[] points = [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
        vector3f[] velocities = [(0, 0, 1), (0, 0, 2), (0, 0, 3)]
        float[] widths = [0.1, 0.1, 0.1]
        int[] primvars:number = [11, 22, 33] (
            interpolation = "vertex"
        )
    }
}
USD
venv/bin/python - <<'PYTHON' | grep -v "USD import of"
import bpy

bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.wm.usd_import(filepath="points.usda")
cloud = next(thing for thing in bpy.data.objects if thing.type == "POINTCLOUD").data
names = sorted(attribute.name for attribute in cloud.attributes)
print(f"Blender {bpy.app.version_string}: Points with ids, velocities, widths and a primvar 'number'")
print("expected: an attribute for the ids")
print(f"seen:     {', '.join(names)}")
assert {"position", "velocity", "number"} <= set(names), "the behavior has changed"
assert not {"id", "ids"} & set(names), "the behavior has changed"
PYTHON
