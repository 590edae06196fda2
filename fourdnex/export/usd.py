"""USD: animated points or meshes and the camera, opened by Blender, usdview, Houdini and Omniverse."""

import os
from typing import Any

import numpy as np

from fourdnex.export.linear_color import linear_from_srgb
from fourdnex.export.output_paths import file_target
from fourdnex.export.point_tracks import tracked_points
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, PointCloud, Selection
from fourdnex.io.files import atomic_path
from fourdnex.scene import Scene4D

_APERTURE = 0.36
"""Horizontal aperture in tenths of a world unit, as in the schema: 36 mm if a unit is a meter."""


def export_usd(scene: Scene4D, path: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write one binary USD file (.usdc or .usd) atomically; time code t is frame t.

    /World/points: UsdGeomPoints with points, extent, widths and displayColor (linear RGB) sampled every frame; the
    number of points may vary. With `options.mesh`, /World/mesh instead: UsdGeomMesh with points, triangles, extent and
    displayColor, bound to /World/image, a UsdPreviewSurface that emits displayColor and needs no lights. With
    `options.tracks`, /World/points holds the same points in every frame, with ids and velocities (units per second,
    towards the next frame) for motion blur; moving points have width 0 before their first frame.
    /World/camera: the moving camera with its principal point. Default values are those of the first frame. The up axis
    is y unless `options.up` is z. metersPerUnit is 1; `options.scale` converts the scene to meters.

    Raises:
        ValueError: see `Selection`; a `path` does not end in .usdc or .usd; usd-core is not installed.
        OSError: the file cannot be written.
    """
    target = file_target(path, ".usdc", ".usd")
    selection = Selection(scene, options, up="y", ups=("y", "z"), has_normals=True, has_mesh=True, has_tracks=True)
    try:
        from pxr import Sdf, Tf, Usd, UsdGeom
    except ModuleNotFoundError as error:
        raise ValueError("USD files need usd-core: pip install 'fourdnex[export]'") from error
    with atomic_path(target) as temporary:
        try:
            layer = Sdf.Layer.CreateNew(str(temporary), args={"format": "usdc"})
            stage = Usd.Stage.Open(layer)
            UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y if selection.up == "y" else UsdGeom.Tokens.z)
            UsdGeom.SetStageMetersPerUnit(stage, 1.0)
            stage.SetStartTimeCode(0)
            stage.SetEndTimeCode(scene.num_frames - 1)
            stage.SetTimeCodesPerSecond(scene.fps)
            stage.SetFramesPerSecond(scene.fps)
            layer.customLayerData = {"provenance": selection.provenance}
            stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
            camera = _Camera(stage, selection)
            kind = _TrackedPoints if options.tracks else _Mesh if options.mesh else _Points
            shape = kind(stage, selection)
            for t in range(scene.num_frames):
                shape.set(t)
                camera.set(t)
            layer.Save()
        except Tf.ErrorException as error:
            raise OSError(f"{target}: cannot be written; check that the disk is not full") from error


class _Shape:
    """Attributes shared by points and meshes: positions, colors, normals and extent."""

    def __init__(self, prim: Any, selection: Selection) -> None:
        from pxr import UsdGeom

        self._prim, self._selection = prim, selection
        self._colors = prim.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        self._table = linear_from_srgb()
        if selection.options.normals:
            prim.SetNormalsInterpolation(UsdGeom.Tokens.vertex)

    def _set(self, t: int, cloud: PointCloud) -> None:
        """Set the shared attributes at frame `t`."""
        from pxr import Vt

        _sample(self._prim.CreatePointsAttr(), Vt.Vec3fArray.FromNumpy(cloud.xyz), t)
        _sample(self._prim.CreateExtentAttr(), Vt.Vec3fArray.FromNumpy(cloud.bounds()), t)
        _sample(self._colors, Vt.Vec3fArray.FromNumpy(self._table[cloud.rgb]), t)
        if cloud.normals is not None:
            _sample(self._prim.CreateNormalsAttr(), Vt.Vec3fArray.FromNumpy(cloud.normals), t)


class _Points(_Shape):
    """The points of each frame."""

    def __init__(self, stage: Any, selection: Selection) -> None:
        from pxr import UsdGeom

        super().__init__(UsdGeom.Points.Define(stage, "/World/points"), selection)
        self._prim.SetWidthsInterpolation(UsdGeom.Tokens.vertex)

    def set(self, t: int) -> None:
        """Write the values of frame `t`."""
        from pxr import Vt

        cloud = self._selection.points(t)
        self._set(t, cloud)
        _sample(self._prim.CreateWidthsAttr(), Vt.FloatArray.FromNumpy(self._selection.diameters(t, cloud)), t)


class _TrackedPoints:
    """Tracked points: only positions, velocities, widths and extent are time-sampled."""

    def __init__(self, stage: Any, selection: Selection) -> None:
        from pxr import Sdf, UsdGeom, Vt

        self._points, self._fps = tracked_points(selection), selection.scene.fps
        self._prim = UsdGeom.Points.Define(stage, "/World/points")
        self._prim.SetWidthsInterpolation(UsdGeom.Tokens.vertex)
        numbers = np.arange(len(self._points.xyz))
        self._prim.CreateIdsAttr(Vt.Int64Array.FromNumpy(numbers))
        # Blender imports primvars but not ids; its attribute for them is named "id".
        primvar = UsdGeom.PrimvarsAPI(self._prim).CreatePrimvar("id", Sdf.ValueTypeNames.IntArray)
        primvar.SetInterpolation(UsdGeom.Tokens.vertex)
        primvar.Set(Vt.IntArray.FromNumpy(numbers.astype(np.int32)))
        colors = linear_from_srgb()[self._points.tracks.rgb]
        self._prim.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(Vt.Vec3fArray.FromNumpy(colors))

    def set(self, t: int) -> None:
        """Write the values of frame `t`."""
        from pxr import Vt

        xyz, shown = np.ascontiguousarray(self._points.xyz[:, t]), self._points.shown[:, t]
        bounds = np.stack([xyz[shown].min(axis=0), xyz[shown].max(axis=0)]) if shown.any() else np.zeros((2, 3))
        _sample(self._prim.CreatePointsAttr(), Vt.Vec3fArray.FromNumpy(xyz), t)
        _sample(self._prim.CreateVelocitiesAttr(), Vt.Vec3fArray.FromNumpy(self._points.velocities(t, self._fps)), t)
        _sample(self._prim.CreateExtentAttr(), Vt.Vec3fArray.FromNumpy(bounds.astype(np.float32)), t)
        widths = np.where(shown, self._points.diameters, np.float32(0))
        _sample(self._prim.CreateWidthsAttr(), Vt.FloatArray.FromNumpy(widths), t)


class _Mesh(_Shape):
    """The triangle mesh of each frame."""

    def __init__(self, stage: Any, selection: Selection) -> None:
        from pxr import Sdf, UsdGeom, UsdShade

        super().__init__(UsdGeom.Mesh.Define(stage, "/World/mesh"), selection)
        self._prim.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        self._prim.CreateDoubleSidedAttr(True)
        # The images contain the lighting already: the surface emits its color and reflects nothing.
        material = UsdShade.Material.Define(stage, "/World/image")
        reader = UsdShade.Shader.Define(stage, "/World/image/color")
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        surface = UsdShade.Shader.Define(stage, "/World/image/surface")
        surface.CreateIdAttr("UsdPreviewSurface")
        surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set((0, 0, 0))
        surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1)
        emission = surface.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f)
        emission.ConnectToSource(reader.CreateOutput("result", Sdf.ValueTypeNames.Float3))
        material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
        UsdShade.MaterialBindingAPI.Apply(self._prim.GetPrim()).Bind(material)

    def set(self, t: int) -> None:
        """Write the values of frame `t`."""
        from pxr import Vt

        cloud, triangles = self._selection.mesh(t)
        self._set(t, cloud)
        counts = np.full(len(triangles), 3, np.int32)
        _sample(self._prim.CreateFaceVertexCountsAttr(), Vt.IntArray.FromNumpy(counts), t)
        _sample(self._prim.CreateFaceVertexIndicesAttr(), Vt.IntArray.FromNumpy(triangles.ravel()), t)


class _Camera:
    """The camera prim; USD cameras look along -z with y up."""

    def __init__(self, stage: Any, selection: Selection) -> None:
        from pxr import Gf, UsdGeom

        fx, fy, cx, cy = selection.pinhole
        height, width = selection.scene.height, selection.scene.width
        focal = _APERTURE * fx / width
        depth = selection.scene.depth[np.isfinite(selection.scene.depth)] * selection.options.scale
        prim = UsdGeom.Camera.Define(stage, "/World/camera")
        prim.CreateFocalLengthAttr(focal)
        prim.CreateHorizontalApertureAttr(_APERTURE)
        prim.CreateVerticalApertureAttr(focal * height / fy)
        # Image center relative to the principal point, to the right and up.
        prim.CreateHorizontalApertureOffsetAttr(focal * ((width - 1) / 2 - cx) / fx)
        prim.CreateVerticalApertureOffsetAttr(focal * (cy - (height - 1) / 2) / fy)
        prim.CreateFStopAttr(0.0)  # everything in focus
        prim.CreateClippingRangeAttr(Gf.Vec2f(float(depth.min()) * 0.1, float(depth.max()) * 10))
        self._operation = prim.AddTransformOp()
        self._poses = selection.opengl_camera_to_world

    def set(self, t: int) -> None:
        """Write the values of frame `t`."""
        from pxr import Gf

        _sample(self._operation, Gf.Matrix4d(self._poses[t].T.tolist()), t)  # row vectors


def _sample(attribute: Any, value: Any, t: int) -> None:
    """Set a value at frame `t`; the first frame's value is also the default."""
    if t == 0:
        attribute.Set(value)
    attribute.Set(value, t)
