"""USD files, read by USD itself."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_usd

pxr = pytest.importorskip("pxr")


def open_stage(path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def test_stage_points_and_colours_of_every_frame(scene, tmp_path):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usdc")
    assert (tmp_path / "a.usdc").read_bytes().startswith(b"PXR-USDC")
    stage = open_stage(tmp_path / "a.usdc")
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, 2)
    assert stage.GetFramesPerSecond() == stage.GetTimeCodesPerSecond() == 12
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert '"adapter_digest": "abc"' in stage.GetRootLayer().customLayerData["provenance"]
    assert str(stage.GetDefaultPrim().GetPath()) == "/World"

    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    assert points.GetPointsAttr().GetTimeSamples() == [0, 1, 2]
    assert points.GetWidthsInterpolation() == "vertex"
    for t in range(3):
        xyz, rgb = scene.points(t)
        found = np.array(points.GetPointsAttr().Get(t))
        assert found == pytest.approx(xyz * [1, -1, -1], abs=1e-6)  # y up
        assert np.array(points.GetExtentAttr().Get(t)) == pytest.approx(np.stack([found.min(0), found.max(0)]))
        colour = np.array(points.GetDisplayColorPrimvar().Get(t)).astype(float)
        encoded = np.where(colour <= 0.0031308, 12.92 * colour, 1.055 * colour ** (1 / 2.4) - 0.055)
        assert (np.round(encoded * 255) == rgb).all()
        depth = scene.depth[t][np.isfinite(scene.depth[t])]
        assert np.array(points.GetWidthsAttr().Get(t)) == pytest.approx(depth / 15)
    assert len(points.GetPointsAttr().Get(0)) == 96 and len(points.GetPointsAttr().Get(1)) == 95


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_camera_sees_every_point_at_its_pixel(up, scene, tmp_path, pixel_grid):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(up=up, scale=3))
    stage = open_stage(tmp_path / "a.usdc")
    assert UsdGeom.GetStageUpAxis(stage) == up.upper()
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/camera"))
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    for t in range(3):
        # USD's own projection: row vectors, to [-1, 1] with y up.
        matrix = np.array(camera.GetCamera(t).frustum.ComputeViewMatrix()) @ np.array(
            camera.GetCamera(t).frustum.ComputeProjectionMatrix()
        )
        xyz = np.array(points.GetPointsAttr().Get(t), np.float64)
        clip = np.hstack([xyz, np.ones((len(xyz), 1))]) @ matrix
        device = clip[:, :2] / clip[:, 3:]
        # The picture reaches from -0.5 to 11.5 and, downwards, from -0.5 to 7.5.
        pixels = (device * [1, -1] + 1) / 2 * [12, 8] - 0.5
        assert pixels == pytest.approx(pixel_grid(scene, t), abs=1e-3)
        depth = clip[:, 2] / clip[:, 3]
        assert (np.abs(depth) < 1).all()  # nothing is clipped away


def test_normals_on_demand(scene, tmp_path):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usd", ExportOptions(normals=True))
    stage = open_stage(tmp_path / "a.usd")
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    normals = np.array(points.GetNormalsAttr().Get(0))
    assert normals.shape == (96, 3) and (normals[:, 2] > 0.9).all()  # the first camera is on the side of +z


def test_a_frame_without_points_is_empty(scene, tmp_path):
    from pxr import UsdGeom

    depth = scene.depth.copy()
    depth[1] = np.nan
    export_usd(replace(scene, depth=depth), tmp_path / "a.usdc")
    stage = open_stage(tmp_path / "a.usdc")
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    assert [len(points.GetPointsAttr().Get(t)) for t in range(3)] == [96, 0, 96]


def test_an_older_file_is_replaced_even_while_it_is_open(scene, tmp_path):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "Bär 1.usdc")
    stage = open_stage(tmp_path / "Bär 1.usdc")
    export_usd(scene, tmp_path / "Bär 1.usdc", ExportOptions(stride=4))
    stage.Reload()
    assert len(UsdGeom.Points(stage.GetPrimAtPath("/World/points")).GetPointsAttr().Get(0)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["Bär 1.usdc"]


def test_only_up_axes_that_usd_knows(scene, tmp_path):
    with pytest.raises(ValueError, match="up: this format knows y and z only, got -y"):
        export_usd(scene, tmp_path / "a.usdc", ExportOptions(up="-y"))
