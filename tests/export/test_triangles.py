"""Triangles of tiny depth maps, derived by hand, and their orientation in exported worlds."""

import numpy as np
import pytest

from fourdnex.export import ExportOptions, Selection
from fourdnex.export.triangles import grid_triangles

HOLE = np.nan


@pytest.mark.parametrize(
    ("depth", "triangles"),
    [
        # Corners: 0 1 above 2 3. Counterclockwise in the image.
        ([[1, 1], [1, 1]], [[0, 2, 1], [1, 2, 3]]),
        ([[1, 1], [1.1, 1]], [[0, 2, 3], [0, 3, 1]]),  # the diagonal along which depth is constant
        ([[1, 1.1], [1, 1.2]], [[0, 2, 1], [1, 2, 3]]),
        ([[HOLE, 1], [1, 1]], [[1, 2, 3]]),
        ([[1, HOLE], [1, 1]], [[0, 2, 3]]),
        ([[1, 1], [HOLE, 1]], [[0, 3, 1]]),
        ([[1, 1], [1, HOLE]], [[0, 2, 1]]),
        ([[1, HOLE], [HOLE, 1]], []),
        ([[1, 2], [2, 2]], [[1, 2, 3]]),  # one near corner
        ([[2, 2], [2, 1]], [[0, 2, 1]]),
        ([[1, 2], [1, 2]], []),
        ([[1, 1.26], [1, 1.26]], []),  # more than 25 % is a depth edge
        ([[1, 1.25], [1, 1.25]], [[0, 2, 1], [1, 2, 3]]),
        ([[1, 1, 1]], []),  # no cell
    ],
)
def test_triangles_of_one_cell(depth, triangles):
    assert grid_triangles(np.array(depth, float), 0.25).tolist() == triangles


def test_cells_around_a_hole_keep_one_triangle():
    # 0 1 2
    # 3 . 5
    # 6 7 8
    depth = np.ones((3, 3))
    depth[1, 1] = np.nan
    assert grid_triangles(depth, 0.25).tolist() == [[0, 3, 1], [1, 5, 2], [3, 6, 7], [5, 7, 8]]


def test_no_triangle_crosses_a_depth_edge():
    depth = np.array([[1.0, 1, 3], [1, 1, 3], [1, 1, 3]])
    assert grid_triangles(depth, 0.25).tolist() == [[0, 3, 1], [1, 3, 4], [3, 6, 4], [4, 6, 7]]


def test_mesh_indexes_its_own_vertices(scene):
    # Columns 0, 4 and 8 of rows 0 and 4; column 8 is behind the depth edge and unused.
    cloud, triangles = Selection(scene, ExportOptions(mesh=True, stride=4), has_mesh=True).mesh(0)
    assert cloud.pixels.tolist() == [0, 4, 48, 52]
    assert triangles.tolist() == [[0, 2, 1], [1, 2, 3]]
    assert (cloud.rgb == scene.rgb[0].reshape(-1, 3)[[0, 4, 48, 52]]).all()


def test_depth_edge_cuts_the_mesh(scene):
    def triangles(**options) -> int:
        return len(Selection(scene, ExportOptions(mesh=True, **options), has_mesh=True).triangles(0))

    # Depth is 2 to 2.21 before the edge and at least 2.09 + 3 behind it: at least 1.4 times the nearer depth.
    assert triangles() == triangles(depth_edge=0.25) == triangles(depth_edge=0.02) == 7 * 10 * 2
    assert triangles(depth_edge=2.0) == 7 * 11 * 2
    # The next row is farther by 0.02 at depths 2 to 5.3, more than a thousandth.
    with pytest.raises(ValueError, match="mesh: no triangle remains"):
        triangles(depth_edge=1e-3)


def test_filters_remove_vertices(scene):
    # Columns 0 to 4 of row 0 have low confidence: the first row of cells keeps columns 5 and 6 before the depth edge,
    # and half of the cell at 4.
    selection = Selection(scene, ExportOptions(mesh=True, min_confidence=0.5), has_mesh=True)
    assert len(selection.mesh(0)[1]) == 7 * 10 * 2 - 2 * 4 - 1


@pytest.mark.parametrize("up", ["-y", "y", "z"])
def test_front_faces_are_oriented_towards_the_camera(up, scene):
    options = ExportOptions(mesh=True, up=up, scale=3, normals=True)
    selection = Selection(scene, options, has_normals=True, has_mesh=True)
    for t in range(3):
        cloud, triangles = selection.mesh(t)
        corners = cloud.xyz[triangles].astype(float)
        facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        to_camera = selection.camera_to_world[t, :3, 3] - corners.mean(axis=1)
        assert len(triangles) > 100 and (np.einsum("ij,ij->i", facing, to_camera) > 0).all()
        assert (np.einsum("ij,ij->i", facing, cloud.normals[triangles].sum(axis=1)) > 0).all()


def test_empty_mesh_is_rejected(scene):
    with pytest.raises(ValueError, match="mesh: no triangle remains"):
        Selection(scene, ExportOptions(mesh=True, stride=8), has_mesh=True)  # one row of vertices


@pytest.mark.parametrize("format_name", ["rerun", "colmap", "nerfstudio", "npz"])
def test_formats_without_mesh_support_reject_meshes(format_name, scene, tmp_path):
    from fourdnex.export import EXPORTERS

    path = tmp_path / ("out" + {"rerun": ".rrd", "npz": ".npz"}.get(format_name, ""))
    with pytest.raises(ValueError, match="mesh: not supported by this format; export to ply, usd or glb"):
        EXPORTERS[format_name](scene, path, ExportOptions(mesh=True))
    assert not list(tmp_path.iterdir())
