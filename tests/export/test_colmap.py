"""COLMAP models, read by pycolmap in a process of its own (its libraries and Pillow's PNG do not go together)."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_colmap

READER = """
import json, sys
import numpy as np, pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
(camera,) = model.cameras.values()
images = {}
for image in model.images.values():
    seen = [p.point3D_id for p in image.points2D]
    world = np.array([model.points3D[i].xyz for i in seen])
    images[image.name] = {
        "xy": [p.xy.tolist() for p in image.points2D],
        "projected": [image.project_point(x).tolist() for x in world],
        "xyz": world.tolist(),
        "rgb": [model.points3D[i].color.tolist() for i in seen],
        "centre": image.projection_center().tolist(),
        "tracks": sorted({e.image_id for i in seen for e in model.points3D[i].track.elements}),
        "id": image.image_id,
    }
camera = {"model": camera.model.name, "params": camera.params.tolist(), "size": [camera.width, camera.height]}
print(json.dumps({"camera": camera, "images": images, "points": len(model.points3D)}))
"""


def read_model(folder) -> dict:
    ran = subprocess.run([sys.executable, "-c", READER, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_pycolmap_finds_points_pixels_and_cameras(scene, tmp_path, pixel_grid):
    export_colmap(scene, tmp_path / "out", ExportOptions(up="z", scale=2))
    model = read_model(tmp_path / "out" / "sparse" / "0")
    # COLMAP's pixel centres lie at halves.
    assert model["camera"] == {"model": "PINHOLE", "params": pytest.approx([15, 14, 5.6, 4.4]), "size": [12, 8]}
    assert model["points"] == 96 + 95 + 96
    assert sorted(model["images"]) == ["frame_0000.png", "frame_0001.png", "frame_0002.png"]
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    for t, image in enumerate(model["images"][name] for name in sorted(model["images"])):
        xyz, rgb = scene.points(t)
        assert np.array(image["xyz"]) == pytest.approx(2 * xyz @ turn.T, abs=1e-5)
        assert (np.array(image["rgb"]) == rgb).all()
        assert np.array(image["xy"]) == pytest.approx(pixel_grid(scene, t) + 0.5)
        assert np.array(image["projected"]) == pytest.approx(np.array(image["xy"]), abs=1e-3)
        assert image["centre"] == pytest.approx(2 * turn @ scene.camera_to_world[t, :3, 3], abs=1e-6)
        assert image["tracks"] == [image["id"]]


def test_pictures_are_the_scenes(scene, tmp_path):
    import cv2

    export_colmap(scene, tmp_path / "out")
    for t in range(3):
        picture = cv2.imread(str(tmp_path / "out" / "images" / f"frame_{t:04d}.png"))
        assert (picture[..., ::-1] == scene.rgb[t]).all()
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["bild"] == "Müller.png"


def test_skew_is_refused(scene, tmp_path):
    from dataclasses import replace

    intrinsics = scene.intrinsics.copy()
    intrinsics[0, 1] = 0.5
    with pytest.raises(ValueError, match=r"intrinsics: expected no skew for this format, got 0\.5"):
        export_colmap(replace(scene, intrinsics=intrinsics), tmp_path / "out")
    assert not list(tmp_path.iterdir())
