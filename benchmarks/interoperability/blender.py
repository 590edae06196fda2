"""What Blender makes of a file: run inside Blender (`blender -b -P`) or by a Python that has bpy.

Arguments: a JSON file with the paths to open, the size and angle of the scene's image, and where to put renderings.
Prints a JSON line a file. The scene is empty otherwise: no lights, no world.
"""

import json
import re
import sys

import bpy
import numpy as np


def main(job: dict) -> None:
    for path in job["paths"]:
        row = {"client": "Blender", "version": bpy.app.version_string, "path": path}
        try:
            seen = open_and_render(path, job)
        except (AttributeError, RuntimeError) as error:
            lines = [line for line in str(error).splitlines() if line and not line.startswith("Location:")]
            seen = "not opened: " + next((line for line in lines if re.match(r"\w+Error: ", line)), lines[-1])
        print("\n" + json.dumps(row | {"seen": seen}), flush=True)  # add-ons leave lines unfinished


def open_and_render(path: str, job: dict) -> str:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    load(path)
    scene = bpy.context.scene
    parts = []
    for thing in bpy.data.objects:
        if thing.type == "POINTCLOUD":
            parts.append(f"point cloud of {len(thing.data.points)}")
        elif thing.type == "MESH":
            loose = f"{len(thing.data.vertices)} loose vertices"
            parts.append(f"mesh of {len(thing.data.polygons)} triangles" if len(thing.data.polygons) else loose)
        elif thing.type == "CAMERA":
            parts.append(f"camera of {thing.data.lens:.1f} mm on {thing.data.sensor_width:.1f} mm")
            scene.camera = thing
    if path.endswith(".usdc"):
        parts.append(f"{scene.render.fps} fps")
    if scene.camera is None:  # where the scene's first camera stands in a world with y up
        lens = bpy.data.cameras.new("first")
        lens.angle = job["angle"]
        scene.camera = bpy.data.objects.new("first", lens)
        scene.collection.objects.link(scene.camera)
    scene.frame_set(0)
    parts.append("as imported " + render(job, path + ".blender.png"))
    attributes = [name for thing in bpy.data.objects if (name := color_attribute(thing)) is not None]
    if attributes and all(thing.data.materials[:] == [] for thing in bpy.data.objects if color_attribute(thing)):
        show_attribute(attributes[0])
        parts.append(f"with the Attribute node {attributes[0]} " + render(job, path + ".blender-attribute.png"))
    return "; ".join(parts)


def load(path: str) -> None:
    if path.endswith(".glb"):
        bpy.ops.import_scene.gltf(filepath=path)
    elif path.endswith(".usdc"):
        bpy.ops.wm.usd_import(filepath=path)
    elif bpy.app.version >= (4, 0):
        bpy.ops.wm.ply_import(filepath=path)
    else:
        bpy.ops.import_mesh.ply(filepath=path)


def color_attribute(thing) -> "str | None":
    names = [a.name for a in getattr(thing.data, "attributes", []) if a.data_type in ("FLOAT_COLOR", "BYTE_COLOR")]
    return names[0] if names else None


def show_attribute(name: str) -> None:
    material = bpy.data.materials.new("attribute")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    attribute, emission = nodes.new("ShaderNodeAttribute"), nodes.new("ShaderNodeEmission")
    attribute.attribute_name = name
    links.new(attribute.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs["Emission"], nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    for thing in bpy.data.objects:
        if color_attribute(thing) is not None:
            thing.data.materials.append(material)


def render(job: dict, path: str) -> str:
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 16, False
    scene.render.resolution_x, scene.render.resolution_y = job["size"]
    scene.render.film_transparent, scene.view_settings.view_transform = True, "Standard"
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)
    found, wanted = pixels(path), pixels(job["image"])
    covered = found[..., 3] > 0.9
    share = f"{100 * found[..., 3].mean():.1f} % of the image is covered"
    if not covered.any():
        return share
    # What is stored are sRGB bytes: so many steps of 255 apart.
    return f"{share}, its colors {255 * np.abs(found - wanted)[covered][:, :3].mean():.1f} of 255 off"


def pixels(path: str) -> np.ndarray:
    image = bpy.data.images.load(path)
    image.colorspace_settings.name = "Non-Color"
    return np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)


if __name__ == "__main__":
    with open(sys.argv[-1], encoding="utf-8") as file:
        main(json.load(file))
