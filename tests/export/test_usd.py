"""USD files, read by usd-core."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_usd

pxr = pytest.importorskip("pxr")


def open_stage(path):
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def test_stage_has_points_and_colors_of_every_frame(scene, tmp_path):
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
        color = np.array(points.GetDisplayColorPrimvar().Get(t)).astype(float)
        encoded = np.where(color <= 0.0031308, 12.92 * color, 1.055 * color ** (1 / 2.4) - 0.055)
        assert (np.round(encoded * 255) == rgb).all()
        depth = scene.depth[t][np.isfinite(scene.depth[t])]
        assert np.array(points.GetWidthsAttr().Get(t)) == pytest.approx(depth * np.hypot(1 / 15, 1 / 14))
    assert len(points.GetPointsAttr().Get(0)) == 96 and len(points.GetPointsAttr().Get(1)) == 95


@pytest.mark.parametrize("up", ["y", "z"])
def test_camera_projects_every_point_to_its_pixel(up, scene, tmp_path, pixel_grid):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(up=up, scale=3))
    stage = open_stage(tmp_path / "a.usdc")
    assert UsdGeom.GetStageUpAxis(stage) == up.upper()
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/camera"))
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    for t in range(3):
        # USD's projection: row vectors, to [-1, 1] with y up.
        matrix = np.array(camera.GetCamera(t).frustum.ComputeViewMatrix()) @ np.array(
            camera.GetCamera(t).frustum.ComputeProjectionMatrix()
        )
        xyz = np.array(points.GetPointsAttr().Get(t), np.float64)
        clip = np.hstack([xyz, np.ones((len(xyz), 1))]) @ matrix
        device = clip[:, :2] / clip[:, 3:]
        # The image spans -0.5 to 11.5 horizontally and -0.5 to 7.5 vertically, downwards.
        pixels = (device * [1, -1] + 1) / 2 * [12, 8] - 0.5
        assert pixels == pytest.approx(pixel_grid(scene, t), abs=1e-3)
        depth = clip[:, 2] / clip[:, 3]
        assert (np.abs(depth) < 1).all()  # no point is clipped


def test_widths_leave_no_gaps_in_the_camera_view(scene, tmp_path):
    """Discs of the points' widths at their projections cover the image."""
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usdc")
    stage = open_stage(tmp_path / "a.usdc")
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    xyz, widths = np.array(points.GetPointsAttr().Get(0), float), np.array(points.GetWidthsAttr().Get(0), float)
    center = xyz[:, :2] / -xyz[:, 2:]  # the first camera is at the origin and looks along -z
    radius = widths / 2 / -xyz[:, 2]
    # Rays through a fine grid of the image, which spans -0.5 to 11.5 and -0.5 to 7.5.
    x, y = np.meshgrid((np.arange(-0.5, 11.51, 0.1) - 5.1) / 15, -(np.arange(-0.5, 7.51, 0.1) - 3.9) / 14)
    distance = np.hypot(x.reshape(-1, 1) - center[:, 0], y.reshape(-1, 1) - center[:, 1])
    assert (distance <= radius + 1e-6).any(axis=1).mean() == 1


def test_camera_has_a_36_mm_aperture_and_no_depth_of_field(scene, tmp_path):
    """Apertures and focal lengths are tenths of a world unit, independent of `scale`."""
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(scale=5))
    stage = open_stage(tmp_path / "a.usdc")
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/camera"))
    millimeters = 1000 * UsdGeom.GetStageMetersPerUnit(stage) / 10
    assert camera.GetHorizontalApertureAttr().Get() * millimeters == pytest.approx(36)
    assert camera.GetFocalLengthAttr().Get() * millimeters == pytest.approx(36 * 15 / 12)
    assert camera.GetVerticalApertureAttr().Get() * millimeters == pytest.approx(36 * 15 / 12 * 8 / 14)
    assert camera.GetFStopAttr().Get() == 0


@pytest.mark.parametrize("mesh", [False, True])
def test_default_values_are_those_of_the_first_frame(mesh, scene, tmp_path):
    from pxr import Usd, UsdGeom

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(mesh=mesh, normals=True))
    stage = open_stage(tmp_path / "a.usdc")
    for prim in stage.Traverse():
        for attribute in prim.GetAttributes():
            if attribute.GetNumTimeSamples():
                assert attribute.Get() == attribute.Get(0), attribute.GetPath()
    bounds = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_])
    box = bounds.ComputeWorldBound(stage.GetDefaultPrim()).ComputeAlignedRange()
    xyz = scene.points(0)[0] * [1, -1, -1]
    assert np.array([box.GetMin(), box.GetMax()]) == pytest.approx(np.stack([xyz.min(0), xyz.max(0)]))


def test_mesh_per_frame_with_an_emissive_material(scene, tmp_path):
    from pxr import UsdGeom, UsdShade

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(mesh=True))
    stage = open_stage(tmp_path / "a.usdc")
    assert not stage.GetPrimAtPath("/World/points")
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/World/mesh"))
    assert mesh.GetSubdivisionSchemeAttr().Get() == "none" and mesh.GetOrientationAttr().Get() == "rightHanded"
    # Two triangles per cell, none across the depth edge; one for each of the four cells around the hole in frame 1.
    for t, count in enumerate([140, 136, 140]):
        counts = np.array(mesh.GetFaceVertexCountsAttr().Get(t))
        indices = np.array(mesh.GetFaceVertexIndicesAttr().Get(t)).reshape(-1, 3)
        xyz = np.array(mesh.GetPointsAttr().Get(t))
        assert (counts == 3).all() and len(counts) == len(indices) == count
        assert xyz == pytest.approx(scene.points(t)[0] * [1, -1, -1], abs=1e-6)
        assert sorted(set(indices.ravel())) == list(range(len(xyz)))
        assert len(mesh.GetDisplayColorPrimvar().Get(t)) == len(xyz)
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    surface, _, _ = material.ComputeSurfaceSource()
    (source,), _ = surface.GetInput("emissiveColor").GetConnectedSources()
    assert UsdShade.Shader(source.source).GetInput("varname").Get() == "displayColor"


@pytest.mark.parametrize("mesh", [False, True])
def test_usd_validators_report_no_errors(mesh, scene, tmp_path):
    from pxr import UsdValidation

    export_usd(scene, tmp_path / "a.usdc", ExportOptions(mesh=mesh, normals=True))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(open_stage(tmp_path / "a.usdc"))
    assert len(validators) > 20 and [error.GetMessage() for error in errors] == []


def test_normals(scene, tmp_path):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "a.usd", ExportOptions(normals=True))
    stage = open_stage(tmp_path / "a.usd")
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    normals = np.array(points.GetNormalsAttr().Get(0))
    assert normals.shape == (96, 3) and (normals[:, 2] > 0.9).all()  # towards the first camera, at +z


def test_frame_without_points_is_empty(scene, tmp_path):
    from pxr import UsdGeom

    depth = scene.depth.copy()
    depth[1] = np.nan
    export_usd(replace(scene, depth=depth), tmp_path / "a.usdc")
    stage = open_stage(tmp_path / "a.usdc")
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    assert [len(points.GetPointsAttr().Get(t)) for t in range(3)] == [96, 0, 96]


def test_existing_file_is_replaced_while_it_is_open(scene, tmp_path):
    from pxr import UsdGeom

    export_usd(scene, tmp_path / "Bär 1.usdc")
    stage = open_stage(tmp_path / "Bär 1.usdc")
    export_usd(scene, tmp_path / "Bär 1.usdc", ExportOptions(stride=4))
    stage.Reload()
    assert len(UsdGeom.Points(stage.GetPrimAtPath("/World/points")).GetPointsAttr().Get(0)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["Bär 1.usdc"]


def test_unsupported_up_axis_is_rejected(scene, tmp_path):
    with pytest.raises(ValueError, match="up: this format supports y and z only, got -y"):
        export_usd(scene, tmp_path / "a.usdc", ExportOptions(up="-y"))
