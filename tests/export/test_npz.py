import json
import zipfile

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_npz
from fourdnex.geometry.cameras import project


def test_arrays_match_the_scene(scene, tmp_path, pixel_grid):
    export_npz(scene, tmp_path / "a.npz", ExportOptions(up="y", scale=2, normals=True))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        assert data["offsets"].tolist() == [0, 96, 191, 287]
        assert data["points"].dtype == np.float32 and data["normals"].shape == (287, 3)
        assert data["size"].tolist() == [8, 12] and data["fps"] == 12 and data["scale"] == 2 and data["up"] == "y"
        assert json.loads(str(data["provenance"]))["name"] == "kleine Szene"
        for t in range(3):
            frame = slice(*data["offsets"][t : t + 2])
            xyz, rgb = scene.points(t)
            assert data["points"][frame] == pytest.approx(2 * xyz * [1, -1, -1], abs=1e-5)
            assert (data["colors"][frame] == rgb).all()
            cameras = data["intrinsics"], data["camera_to_world"][t : t + 1]
            pixels = project(data["points"][frame][None], *cameras)[0][0]
            assert pixels == pytest.approx(pixel_grid(scene, t), abs=1e-3)
            assert (data["pixels"][frame] == pixel_grid(scene, t) @ [1, 12]).all()


def test_file_is_a_deterministic_zip_archive(scene, tmp_path):
    """Frames are compressed in parallel, which does not affect the file."""
    for name in ("a.npz", "b.npz"):
        export_npz(scene, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        names = ["points", "colors", "pixels", "offsets", "camera_to_world", "intrinsics", "size", "fps", "scale", "up"]
        assert archive.namelist() == [f"{name}.npy" for name in [*names, "provenance"]]
        with archive.open("points.npy") as file:
            assert np.lib.format.read_magic(file) == (1, 0)  # readable by all numpy versions
