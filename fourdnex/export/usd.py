"""USD: the points and the camera over time, opened by Blender, usdview, Houdini, Omniverse."""

import os

import numpy as np

from fourdnex.export.colour import linear_from_srgb
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.export.targets import file_target
from fourdnex.files import atomic_path
from fourdnex.scene import Scene4D

_APERTURE = 0.36
"""Width of the film in tenths of a unit, as the schema has it: 36 mm where a unit is a meter."""


def export_usd(scene: Scene4D, path: str | os.PathLike[str], options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write one binary USD file (.usdc or .usd), whole or not at all; time code t is frame t.

    /World/points: UsdGeomPoints with points, extent, widths and displayColor (linear in light) sampled every frame; the
    number of points may change. /World/camera: the moving camera, with its principal point. What is read without a time
    is the first frame. Up is y unless the options say z; one unit is named a meter (`scale` makes it true).

    Raises:
        ValueError: see `Selection`; a suffix of another format; usd-core is not installed.
        OSError: the file cannot be written.
    """
    target = file_target(path, ".usdc", ".usd")
    selection = Selection(scene, options, up="y", ups=("y", "z"), has_normals=True)
    try:
        from pxr import Sdf, Tf, Usd, UsdGeom, Vt
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
            points = UsdGeom.Points.Define(stage, "/World/points")
            colours = points.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
            table = linear_from_srgb()
            for t in range(scene.num_frames):
                cloud = selection.points(t)
                _sample(points.CreatePointsAttr(), Vt.Vec3fArray.FromNumpy(cloud.xyz), t)
                _sample(points.CreateWidthsAttr(), Vt.FloatArray.FromNumpy(selection.diameters(t, cloud)), t)
                _sample(points.CreateExtentAttr(), Vt.Vec3fArray.FromNumpy(cloud.bounds()), t)
                _sample(colours, Vt.Vec3fArray.FromNumpy(table[cloud.rgb]), t)
                if cloud.normals is not None:
                    _sample(points.CreateNormalsAttr(), Vt.Vec3fArray.FromNumpy(cloud.normals), t)
                camera.move(t)
            points.SetWidthsInterpolation(UsdGeom.Tokens.vertex)
            layer.Save()
        except Tf.ErrorException as error:
            raise OSError(f"{target}: cannot be written; is the disk full?") from error


class _Camera:
    """The camera's prim; USD cameras look along -z with y up."""

    def __init__(self, stage, selection: Selection) -> None:
        from pxr import Gf, UsdGeom

        fx, fy, cx, cy = selection.pinhole
        height, width = selection.scene.height, selection.scene.width
        focal = _APERTURE * fx / width
        depth = selection.scene.depth[np.isfinite(selection.scene.depth)] * selection.options.scale
        prim = UsdGeom.Camera.Define(stage, "/World/camera")
        prim.CreateFocalLengthAttr(focal)
        prim.CreateHorizontalApertureAttr(_APERTURE)
        prim.CreateVerticalApertureAttr(focal * height / fy)
        # Middle of the picture relative to the principal point, to the right and up.
        prim.CreateHorizontalApertureOffsetAttr(focal * ((width - 1) / 2 - cx) / fx)
        prim.CreateVerticalApertureOffsetAttr(focal * (cy - (height - 1) / 2) / fy)
        prim.CreateFStopAttr(0.0)  # everything in focus
        prim.CreateClippingRangeAttr(Gf.Vec2f(float(depth.min()) * 0.1, float(depth.max()) * 10))
        self._operation = prim.AddTransformOp()
        self._poses = selection.opengl_camera_to_world

    def move(self, t: int) -> None:
        from pxr import Gf

        _sample(self._operation, Gf.Matrix4d(self._poses[t].T.tolist()), t)  # row vectors


def _sample(attribute, value, t: int) -> None:
    """Set a value at frame `t`; the first frame's also where no time is asked for."""
    if t == 0:
        attribute.Set(value)
    attribute.Set(value, t)
