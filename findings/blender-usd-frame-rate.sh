#!/usr/bin/env bash
# Blender: importing a USD stage takes over its start and end time codes, but not its frame rate. A stage of 8 time codes
# a second plays three times too fast in a scene of 24 fps; nothing is said about it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "bpy 4.5 needs Python 3.11"; exit 1; }
python3 -m venv venv
venv/bin/pip install --quiet bpy==4.5.15 numpy==1.26.4
cat > moving.usda <<'USD'
#usda 1.0
(
    defaultPrim = "World"
    startTimeCode = 0
    endTimeCode = 16
    timeCodesPerSecond = 8
    framesPerSecond = 8
    upAxis = "Z"
    metersPerUnit = 1
)
def Xform "World"
{
    def Cube "cube"
    {
        double3 xformOp:translate.timeSamples = { 0: (0, 0, 0), 16: (8, 0, 0) }
        uniform token[] xformOpOrder = ["xformOp:translate"]
    }
}
USD
venv/bin/python - <<'PYTHON' | grep -v "USD import of"
import bpy

bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.wm.usd_import(filepath="moving.usda")
scene = bpy.context.scene
cube = next(thing for thing in bpy.data.objects if "cube" in thing.name.lower())
places = []
for frame in (0, 16):
    scene.frame_set(frame)
    evaluated = cube.evaluated_get(bpy.context.evaluated_depsgraph_get())
    places.append(evaluated.matrix_world.translation.x)
way, fps = places[1] - places[0], scene.render.fps / scene.render.fps_base
print(f"Blender {bpy.app.version_string}: a cube that moves 8 units in 2 seconds (16 time codes, 8 a second)")
print("expected: frames 0 to 16 at 8 fps, 4.0 units a second")
print(f"seen:     frames {scene.frame_start} to {scene.frame_end} at {fps:g} fps, {way / 16 * fps:.1f} units a second")
assert (scene.frame_start, scene.frame_end, fps, round(way)) == (0, 16, 24, 8), "the behavior has changed"
PYTHON
