import json
import site
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_nerfstudio


def read(folder) -> dict:
    return json.loads((folder / "transforms.json").read_text())


@pytest.mark.parametrize("up", ["-y", "y", "z"])
def test_unprojected_depth_images_equal_the_points(up, scene, tmp_path):
    """With nerfstudio's conventions: OpenGL camera axes, pixel centers at half-integers, depth in its unit."""
    export_nerfstudio(scene, tmp_path / "out", ExportOptions(up=up, scale=2))
    data = read(tmp_path / "out")
    assert (data["w"], data["h"], data["camera_model"]) == (12, 8, "OPENCV")
    applied = np.array(data["applied_transform"])
    assert applied.shape == (3, 4) and data["world_scale"] == 2
    # nerfstudio would apply it again to points and depth.
    assert "applied_scale" not in data
    assert [frame["time"] for frame in data["frames"]] == [0, 0.5, 1]
    columns, rows = np.meshgrid(np.arange(12) + 0.5, np.arange(8) + 0.5)
    for t, frame in enumerate(data["frames"]):
        codes = cv2.imread(str(tmp_path / "out" / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        assert codes.dtype == np.uint16
        depth = codes * data["depth_unit_scale_factor"]
        x, y = (columns - data["cx"]) / data["fl_x"], -(rows - data["cy"]) / data["fl_y"]
        local = np.stack([x * depth, y * depth, -depth], axis=-1)[codes > 0]
        pose = np.array(frame["transform_matrix"])
        world = local @ pose[:3, :3].T + pose[:3, 3]
        original = world / data["world_scale"] @ applied[:, :3]
        assert original == pytest.approx(scene.points(t)[0], abs=1e-3)
        image = cv2.imread(str(tmp_path / "out" / frame["file_path"]))
        assert (image[..., ::-1] == scene.rgb[t]).all()


def test_world_has_z_up_by_default(scene, tmp_path):
    export_nerfstudio(scene, tmp_path / "out")
    first = np.array(read(tmp_path / "out")["frames"][0]["transform_matrix"])
    # Right is x, up is z, and the first camera looks along y, its negative third axis.
    assert first == pytest.approx(np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))


def test_initial_points_are_in_the_same_world(scene, tmp_path):
    export_nerfstudio(scene, tmp_path / "out")
    file = tmp_path / "out" / read(tmp_path / "out")["ply_file_path"]
    header, _, body = file.read_bytes().partition(b"end_header\n")
    assert b"element vertex 287\n" in header
    xyz = np.concatenate([scene.points(t)[0] for t in range(3)])
    expected = np.stack([xyz[:, 0], xyz[:, 2], -xyz[:, 1]], axis=1)
    assert np.frombuffer(body, np.uint8).reshape(-1, 15)[:, :12].copy().view("<f4") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "unit"),
    # Depth is 2 to 5.45: millimeters fit; times 20 it exceeds 16 bits; times 0.1 the error of millimeters exceeds 1e-3.
    [(1, 1e-3), (20, 20 * 5.45 / 65535), (0.1, 0.1 * 5.45 / 65535)],
)
def test_depth_unit_is_a_millimeter_if_it_fits(scale, unit, scene, tmp_path):
    export_nerfstudio(scene, tmp_path / "out", ExportOptions(scale=scale))
    data = read(tmp_path / "out")
    assert data["depth_unit_scale_factor"] == pytest.approx(unit)
    codes = cv2.imread(str(tmp_path / "out" / "depth" / "frame_0000.png"), cv2.IMREAD_UNCHANGED)
    assert codes * data["depth_unit_scale_factor"] == pytest.approx(scale * scene.depth[0], rel=1e-3)


def test_filters_apply_to_depth_images_and_stride_does_not(scene, tmp_path):
    export_nerfstudio(scene, tmp_path / "out", ExportOptions(stride=4, depth_edge=0.2, min_confidence=0.5))
    codes = cv2.imread(str(tmp_path / "out" / "depth" / "frame_0000.png"), cv2.IMREAD_UNCHANGED)
    assert (codes[0, :5] == 0).all() and (codes[:, 7:9] == 0).all() and (codes[1:, :7] > 0).all()


LOAD = """
import sys
from pathlib import Path
import numpy as np
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.depth_dataset import DepthDataset

keep_world = dict(orientation_method="none", center_method="none", auto_scale_poses=False, eval_mode="all")
parser = NerfstudioDataParserConfig(data=Path(sys.argv[1]), load_3D_points=True, **keep_world).setup()
outputs = parser.get_dataparser_outputs("train")
data = DepthDataset(outputs)
np.savez(
    sys.argv[2],
    camera_to_world=outputs.cameras.camera_to_worlds.numpy(),
    intrinsics=outputs.cameras.get_intrinsics_matrices().numpy(),
    points=outputs.metadata["points3D_xyz"].numpy(),
    colors=outputs.metadata["points3D_rgb"].numpy(),
    depth=np.stack([data[t]["depth_image"].numpy()[..., 0] for t in range(len(data))]),
    to_saved=outputs.dataparser_transform.numpy(),
)
"""


@pytest.fixture(scope="module")
def nerfstudio_python(tmp_path_factory) -> Path:
    """An environment with nerfstudio's parser and its dependencies; torch comes from the test environment."""
    folder = tmp_path_factory.mktemp("nerfstudio") / "venv"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    parser = ["nerfstudio==1.1.5", "viser==1.1.1", "tensorboard==2.21.0"]
    dependencies = ["open3d==0.20.0", "jaxtyping==0.2.36", "tyro==0.9.35", "absl-py==2.5.1", "msgspec==0.22.0"]
    for packages in (["--no-deps", *parser], [*dependencies, "zstandard==0.25.0"]):
        install = [python, "-m", "pip", "install", "--quiet", *packages]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"nerfstudio cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "tests.pth").write_text("\n".join(site.getsitepackages()))
    return python


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2])
def test_nerfstudio_parser_reads_cameras_points_and_depth_in_one_world(scale, scene, tmp_path, nerfstudio_python):
    export_nerfstudio(scene, tmp_path / "out", ExportOptions(up="z", scale=scale))
    run = [nerfstudio_python, "-c", LOAD, tmp_path / "out", tmp_path / "read.npz"]
    ran = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    read = np.load(tmp_path / "read.npz")
    rotation = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert read["to_saved"] == pytest.approx(np.hstack([rotation, np.zeros((3, 1))]))
    centers = scale * scene.camera_to_world[:, :3, 3] @ rotation.T
    assert read["camera_to_world"][:, :, 3] == pytest.approx(centers, abs=1e-5)
    # OpenGL camera axes: y and z are negated.
    axes = rotation @ scene.camera_to_world[:, :3, :3] * [1, -1, -1]
    assert read["camera_to_world"][:, :, :3] == pytest.approx(axes, abs=1e-6)
    assert read["intrinsics"][0] == pytest.approx(np.array([[15, 0, 5.6], [0, 14, 4.4], [0, 0, 1]]))
    xyz, rgb = (np.concatenate(parts) for parts in zip(*map(scene.points, range(3)), strict=True))
    assert read["points"] == pytest.approx(scale * xyz @ rotation.T, abs=1e-5)
    assert np.abs(read["colors"].astype(int) - rgb).max() <= 1
    assert read["depth"] == pytest.approx(np.nan_to_num(scale * scene.depth), rel=1e-3)
