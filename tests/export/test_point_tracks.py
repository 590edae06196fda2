"""Exports with tracks, read by the libraries of the formats."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_npz, export_rerun, export_usd
from fourdnex.export.point_tracks import tracked_points
from fourdnex.export.selection import Selection
from fourdnex.tracks import Tracks

TRACKED = ExportOptions(tracks=True)


@pytest.fixture
def tracked(scene):
    """Two static tracks and two that move along x by 1 per frame, one of each starting in frame 1."""
    start = np.array([[0, 0, 2], [1, 0, 3], [0, 1, 2], [1, 1, 4]], np.float32)
    moves = np.array([False, True, False, True])
    first = np.array([0, 0, 1, 1])
    positions = start[:, None] + moves[:, None, None] * np.arange(3)[:, None] * np.array([1.0, 0, 0])
    has_started = np.arange(3) >= first[:, None]
    tracks = Tracks(
        positions=np.where(has_started[..., None], positions, np.nan),
        visible=has_started,
        first_frame=first,
        pixel=np.array([[0, 0], [0, 1], [4, 4], [4, 5]]),
        rgb=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8),
        moves=moves,
    )
    return replace(scene, tracks=tracks)


def test_usd_has_the_same_points_with_ids_and_velocities(tracked, tmp_path):
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom

    export_usd(tracked, tmp_path / "a.usdc", ExportOptions(tracks=True, scale=2))
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/points"))
    assert list(points.GetIdsAttr().Get()) == [0, 1, 2, 3]
    assert list(UsdGeom.PrimvarsAPI(points).GetPrimvar("id").Get()) == [0, 1, 2, 3]  # read by Blender
    positions = np.array([points.GetPointsAttr().Get(t) for t in range(3)])
    assert positions[0] == pytest.approx(np.array([[0, 0, -4], [2, 0, -6], [0, -2, -4], [4, -2, -8]]))  # y up, scale 2
    assert positions[2] - positions[0] == pytest.approx(np.array([[0, 0, 0], [4, 0, 0], [0, 0, 0], [2, 0, 0]]))
    # 2 units per frame at 12 frames per second; the last frame repeats the one before.
    for t, late_speed in enumerate([0, 24, 24]):
        assert np.array(points.GetVelocitiesAttr().Get(t))[:, 0] == pytest.approx([0, 24, 0, late_speed])
    widths = np.array([points.GetWidthsAttr().Get(t) for t in range(3)])
    assert (widths[0] > 0).tolist() == [True, True, True, False] and (widths[1:] > 0).all()
    assert np.array(points.GetDisplayColorPrimvar().Get()) == pytest.approx(tracked.tracks.rgb / 255)


def test_npz_has_tracks_in_addition_to_points(tracked, tmp_path):
    export_npz(tracked, tmp_path / "a.npz", TRACKED)
    export_npz(tracked, tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as found, np.load(tmp_path / "b.npz") as without:
        assert found["track_positions"] == pytest.approx(tracked.tracks.positions, nan_ok=True)
        assert (found["track_visible"] == tracked.tracks.visible).all()
        assert found["track_pixels"].tolist() == [0, 1, 52, 53]
        assert (found["points"] == without["points"]).all()
        assert not [name for name in without if name.startswith("track")]


def test_rerun_has_trails(tracked, tmp_path):
    export_rerun(tracked, tmp_path / "a.rrd", TRACKED)
    chunk = pytest.importorskip("rerun.chunk")
    columns: dict[str, list] = {}
    for part in chunk.RrdReader(tmp_path / "a.rrd").stream():
        batch = part.to_record_batch()
        for name in batch.schema.names:
            columns.setdefault(f"{part.entity_path} {name}", []).extend(batch.column(name).to_pylist())
    positions = np.array(columns["/world/points Points3D:positions"])  # [T, N, 3]
    assert positions[2] == pytest.approx(tracked.tracks.positions[:, 2])
    assert np.array(columns["/world/trails LineStrips3D:strips"][2][0]) == pytest.approx(tracked.tracks.positions[1])
    paths, colors = tracked_points(Selection(tracked, TRACKED, has_tracks=True)).trails(2)
    assert [len(path) for path in paths] == [3, 2] and (colors == tracked.tracks.rgb[[1, 3]]).all()


def test_filters_remove_tracks_and_stride_recomputes_them(tracked):
    points = tracked_points(Selection(tracked, ExportOptions(tracks=True, min_confidence=0.5), has_tracks=True))
    assert points.tracks.first_frame.tolist() == [1, 1]  # confidence of frame 0 is 0.2 in columns 0 to 4 of row 0
    strided = Selection(tracked, ExportOptions(tracks=True, stride=4), has_tracks=True)
    assert len(tracked_points(strided).tracks) >= 6


def test_formats_without_track_support_reject_tracks(tracked, tmp_path):
    from fourdnex.export import EXPORTERS

    for name in ("ply", "glb", "colmap", "nerfstudio"):
        with pytest.raises(ValueError, match="tracks: not supported by this format"):
            EXPORTERS[name](tracked, tmp_path / name, TRACKED)
    with pytest.raises(ValueError, match="tracks: cannot be combined with mesh or normals"):
        export_usd(tracked, tmp_path / "a.usdc", ExportOptions(tracks=True, mesh=True))
