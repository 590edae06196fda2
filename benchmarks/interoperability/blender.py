"""Opens and renders files in Blender; run inside Blender (`blender -b -P`) or by a Python with bpy.

The argument is a JSON file with the paths to open, the size and the field of view of the scene's image, and the image.
Prints one JSON line per file. The Blender scene is otherwise empty: no lights and no world.
"""

import json
import re
import sys

import bpy
import numpy as np


def main(job: dict) -> None:
    """Open every file of the job and print its row."""
    for path in job["paths"]:
        row = {"client": "Blender", "version": bpy.app.version_string, "path": path}
        try:
            result = open_and_render(path, job)
        except (AttributeError, RuntimeError) as error:
            lines = [line for line in str(error).splitlines() if line and not line.startswith("Location:")]
            result = "not opened: " + next((line for line in lines if re.match(r"\w+Error: ", line)), lines[-1])
        print("\n" + json.dumps(row | {"result": result}), flush=True)  # add-ons may leave the line unfinished


def open_and_render(path: str, job: dict) -> str:
    """Description of what Blender imports from a file, and of its rendering."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    load(path)
    scene = bpy.context.scene
    parts = []
    for item in bpy.data.objects:
        if item.type == "POINTCLOUD":
            parts.append(f"point cloud of {len(item.data.points)}")
        elif item.type == "MESH":
            loose = f"{len(item.data.vertices)} loose vertices"
            parts.append(f"mesh of {len(item.data.polygons)} triangles" if len(item.data.polygons) else loose)
        elif item.type == "CAMERA":
            parts.append(f"camera of {item.data.lens:.1f} mm on {item.data.sensor_width:.1f} mm")
            scene.camera = item
    if path.endswith(".usdc"):
        parts.append(f"{scene.render.fps} fps")
    if scene.camera is None:  # the pose of the scene's first camera in a world with y up
        lens = bpy.data.cameras.new("first")
        lens.angle = job["angle"]
        scene.camera = bpy.data.objects.new("first", lens)
        scene.collection.objects.link(scene.camera)
    scene.frame_set(0)
    parts.append("as imported " + render(job, path + ".blender.png"))
    attributes = [name for item in bpy.data.objects if (name := color_attribute(item)) is not None]
    if attributes and all(item.data.materials[:] == [] for item in bpy.data.objects if color_attribute(item)):
        show_attribute(attributes[0])
        parts.append(f"with the Attribute node {attributes[0]} " + render(job, path + ".blender-attribute.png"))
    return "; ".join(parts)


def load(path: str) -> None:
    """Import a file by its suffix."""
    if path.endswith(".glb"):
        bpy.ops.import_scene.gltf(filepath=path)
    elif path.endswith(".usdc"):
        bpy.ops.wm.usd_import(filepath=path)
    elif bpy.app.version >= (4, 0):
        bpy.ops.wm.ply_import(filepath=path)
    else:
        bpy.ops.import_mesh.ply(filepath=path)


def color_attribute(item) -> "str | None":
    """Name of the color attribute of an object."""
    names = [a.name for a in getattr(item.data, "attributes", []) if a.data_type in ("FLOAT_COLOR", "BYTE_COLOR")]
    return names[0] if names else None


def show_attribute(name: str) -> None:
    """Give all objects with colors a material that emits the named attribute."""
    material = bpy.data.materials.new("attribute")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    attribute, emission = nodes.new("ShaderNodeAttribute"), nodes.new("ShaderNodeEmission")
    attribute.attribute_name = name
    links.new(attribute.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs["Emission"], nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    for item in bpy.data.objects:
        if color_attribute(item) is not None:
            item.data.materials.append(material)


def render(job: dict, path: str) -> str:
    """Render to `path`; the share of the image covered, and its color error."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 16, False
    scene.render.resolution_x, scene.render.resolution_y = job["size"]
    scene.render.film_transparent, scene.view_settings.view_transform = True, "Standard"
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)
    rendered, expected = pixels(path), pixels(job["image"])
    covered = rendered[..., 3] > 0.9
    share = f"{100 * rendered[..., 3].mean():.1f} % of the image is covered"
    if not covered.any():
        return share
    # Both images are stored as sRGB; the error is in steps of 255.
    return f"{share}, colors {255 * np.abs(rendered - expected)[covered][:, :3].mean():.1f} of 255 off"


def pixels(path: str) -> np.ndarray:
    """RGBA [H, W, 4] of an image file in [0, 1], without color conversion."""
    image = bpy.data.images.load(path)
    image.colorspace_settings.name = "Non-Color"
    return np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)


if __name__ == "__main__":
    with open(sys.argv[-1], encoding="utf-8") as file:
        main(json.load(file))
