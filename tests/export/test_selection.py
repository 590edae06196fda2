import numpy as np
import pytest

from fourdnex.export import ExportOptions, Selection
from fourdnex.export.selection import depth_edges
from fourdnex.geometry.cameras import project
from fourdnex.scene import Scene4D


def test_default_options_select_all_points(scene):
    selection = Selection(scene, ExportOptions())
    for t in range(3):
        cloud = selection.points(t)
        xyz, rgb = scene.points(t)
        assert cloud.xyz == pytest.approx(xyz, abs=1e-6) and (cloud.rgb == rgb).all()
        assert cloud.xyz.dtype == np.float32 and cloud.normals is None
        assert (cloud.pixels == np.flatnonzero(np.isfinite(scene.depth[t]))).all()
    assert selection.camera_to_world == pytest.approx(scene.camera_to_world)


@pytest.mark.parametrize(
    ("up", "expected"),
    # The point (1, 2, 3) is to the right of, below and in front of the first camera.
    [("-y", [1, 2, 3]), ("y", [1, -2, -3]), ("z", [1, 3, -2])],
)
def test_up_axes(up, expected):
    scene = Scene4D(
        rgb=np.zeros((1, 1, 1, 3), np.uint8),
        depth=np.full((1, 1, 1), 3.0),
        intrinsics=np.array([[3.0, 0, -1], [0, 3, -2], [0, 0, 1]]),
        camera_to_world=np.eye(4)[None],
    )
    assert scene.points(0)[0].tolist() == [[1, 2, 3]]
    selection = Selection(scene, ExportOptions(up=up, scale=10))
    assert selection.points(0).xyz[0] == pytest.approx(10 * np.array(expected))


@pytest.mark.parametrize("up", ["-y", "y", "z"])
def test_exported_cameras_project_points_to_their_pixels(scene, up):
    selection = Selection(scene, ExportOptions(up=up, scale=2.5))
    assert np.linalg.det(selection.camera_to_world[:, :3, :3]) == pytest.approx(1)
    for t in range(3):
        cloud = selection.points(t)
        pixels, depth = project(cloud.xyz[None], scene.intrinsics, selection.camera_to_world[t : t + 1])
        y, x = np.divmod(cloud.pixels, scene.width)
        assert pixels[0] == pytest.approx(np.stack([x, y], axis=1), abs=1e-3)
        assert depth[0] == pytest.approx(selection.depth(t).reshape(-1)[cloud.pixels], rel=1e-5)
        assert depth[0] == pytest.approx(2.5 * scene.depth[t].reshape(-1)[cloud.pixels], rel=1e-5)


def test_stride_selects_every_nth_pixel(scene):
    cloud = Selection(scene, ExportOptions(stride=4)).points(0)
    assert cloud.pixels.tolist() == [0, 4, 8, 48, 52, 56]  # rows 0 and 4, columns 0, 4 and 8 of 12


def test_default_stride_follows_from_max_points(scene):
    # 288 pixels: a stride of 2 leaves 72, of 3 leaves 3 * 3 * 4 = 36.
    assert Selection(scene, ExportOptions(), max_points=288).stride == 1
    assert Selection(scene, ExportOptions(), max_points=72).stride == 2
    assert Selection(scene, ExportOptions(), max_points=71).stride == 3
    assert Selection(scene, ExportOptions(stride=1), max_points=71).stride == 1


def test_min_confidence_removes_points(scene):
    cloud = Selection(scene, ExportOptions(min_confidence=0.5)).points(0)
    assert cloud.pixels.tolist() == list(range(5, 96))


def test_depth_edges():
    depth = np.array([[1.0, 1.04, 2.0, 2.1], [1.0, np.nan, 2.0, 2.0]])
    # 1.04 to 2.0 is an edge of 92 %; 2.0 to 2.1 is 5 %, below the threshold; the hole is no edge.
    assert depth_edges(depth, 0.051).tolist() == [[False, True, True, False], [False, False, False, False]]
    assert depth_edges(depth, 0.02)[0].all()


def test_depth_edge_removes_points_and_depth(scene):
    selection = Selection(scene, ExportOptions(depth_edge=0.2))
    columns = set((selection.points(0).pixels % 12).tolist())
    assert columns == set(range(12)) - {7, 8}
    assert np.isnan(selection.depth(0)[:, [7, 8]]).all() and np.isfinite(selection.depth(0)[:, :7]).all()


@pytest.mark.parametrize("up", ["-y", "y", "z"])
def test_normals_of_a_plane(up):
    """The depth of the plane n . X = d is d / (n . ray); here with a rotated camera and a hole."""
    from fourdnex.geometry.cameras import pixel_rays

    normal = np.array([0.3, -0.4, -np.sqrt(0.75)])  # in the camera's frame, towards the camera
    intrinsics = np.array([[15.0, 0, 5.1], [0, 14, 3.9], [0, 0, 1]])
    depth = -2 / (pixel_rays(8, 12, intrinsics) @ normal)
    depth[3, 4] = np.nan
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    scene = Scene4D(
        rgb=np.zeros((1, 8, 12, 3), np.uint8), depth=depth[None], intrinsics=intrinsics, camera_to_world=pose[None]
    )
    selection = Selection(scene, ExportOptions(up=up, normals=True), has_normals=True)
    cloud = selection.points(0)
    assert cloud.normals == pytest.approx(np.tile(selection.rotation @ pose[:3, :3] @ normal, (95, 1)), abs=1e-4)


def test_normals_ignore_depth_edges(scene):
    selection = Selection(scene, ExportOptions(normals=True), has_normals=True)
    normals = selection.points(0).normals.reshape(8, 12, 3)
    # Both surfaces are nearly parallel to the image; a normal across the edge would be in the image plane.
    assert (normals[..., 2] < -0.9).all()
    assert np.linalg.norm(normals, axis=-1) == pytest.approx(1)


def test_normal_of_an_isolated_pixel_points_to_the_camera():
    depth = np.full((1, 3, 3), np.nan)
    depth[0, 1, 1] = 2
    scene = Scene4D(
        rgb=np.zeros((1, 3, 3, 3), np.uint8),
        depth=depth,
        intrinsics=np.array([[2.0, 0, 1], [0, 2, 1], [0, 0, 1]]),
        camera_to_world=np.eye(4)[None],
    )
    selection = Selection(scene, ExportOptions(normals=True), has_normals=True)
    assert selection.points(0).normals.tolist() == [[0, 0, -1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride: expected at least 1, got 0"),
        ({"min_confidence": 1.5}, "min_confidence: expected 0 to 1, got 1.5"),
        ({"depth_edge": 0.0}, "depth_edge: expected a positive fraction"),
        ({"depth_edge": float("nan")}, "depth_edge: expected a positive fraction"),
        ({"up": "x"}, "up: expected one of -y, y, z, got 'x'"),
        ({"scale": 0.0}, "scale: expected a positive number"),
        ({"scale": float("inf")}, "scale: expected a positive number"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**options)


def test_unsupported_options_are_rejected(scene):
    with pytest.raises(ValueError, match="up: this format supports y only, got z"):
        Selection(scene, ExportOptions(up="z"), up="y", ups=("y",))
    with pytest.raises(ValueError, match="normals: not supported by this format"):
        Selection(scene, ExportOptions(normals=True))


def test_empty_selection_is_rejected(scene):
    with pytest.raises(ValueError, match="no pixel has depth and passes"):
        Selection(scene, ExportOptions(depth_edge=1e-9))
