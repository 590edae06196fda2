"""Rendered test videos: exact geometry, COLMAP's distortion, clips, and the same bytes for a seed."""

import numpy as np
import pytest

pytest.importorskip("skimage")

from benchmarks.rendered_videos import RenderedVideo, clips_of, frames_of, render_video, write_rendered_dataset
from fourdnex.datasets.manifest import read_manifest
from fourdnex.datasets.shards import SourceShard

SIZE = {"num_frames": 12, "height": 60, "width": 90}


@pytest.fixture(scope="module")
def video() -> RenderedVideo:
    return render_video(1, place="courtyard", motion="sideways", k1=-0.1, moving=True, **SIZE)


def test_a_seed_gives_the_same_video_and_another_seed_another(video):
    again = render_video(1, place="courtyard", motion="sideways", k1=-0.1, moving=True, **SIZE)
    other = render_video(2, place="courtyard", motion="sideways", k1=-0.1, moving=True, **SIZE)
    assert np.array_equal(video.rgb, again.rgb) and np.array_equal(video.depth, again.depth, equal_nan=True)
    assert not np.array_equal(video.rgb, other.rgb)


def test_points_of_static_surfaces_are_the_same_in_two_frames():
    """Points of the first frame, seen by the pinhole camera of the last, lie on its surfaces unless they are hidden."""
    video = render_video(3, place="room", motion="orbit", **SIZE)
    k = video.intrinsics.astype(np.float64)
    (first, last), _ = video.truth((0, 11), video.intrinsics, 60, 90)
    v, u = np.mgrid[:60, :90]
    points = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], axis=-1) * first[..., None]
    pose = video.camera_to_world[11].astype(np.float64)
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    x, y = (np.rint(seen[..., i] / seen[..., 2] * k[i, i] + k[i, 2]).astype(int) for i in (0, 1))
    inside = (x >= 0) & (x < 90) & (y >= 0) & (y < 60)
    assert inside.mean() > 0.8
    error = np.abs(seen[..., 2][inside] / last[y[inside], x[inside]] - 1)
    assert np.median(error) < 0.01 and (error < 0.03).mean() > 0.85
    assert np.linalg.norm(pose[:3, 3]) > 0.05


def test_distortion_is_that_of_colmap(video):
    """The depth of a distorted pixel is the pinhole's depth at the point that COLMAP's camera maps to that pixel."""
    pycolmap = pytest.importorskip("pycolmap")
    focal = float(video.intrinsics[0, 0])
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=90, height=60, params=[focal, 45.0, 30.0, video.k1])
    row, column = 58, 4  # on the ground
    x, y = np.ravel(camera.cam_from_img(np.array([column + 0.5, row + 0.5])))[:2]  # COLMAP's pixel centers are at 0.5
    one = np.array([[1.0, 0, -x], [0, 1.0, -y], [0, 0, 1]], np.float32)  # its only pixel looks along this ray
    depth, mask = video.truth([4], one, 1, 1)
    assert depth[0, 0, 0] == pytest.approx(float(video.depth[4, row, column]), rel=1e-4)
    assert mask[0, 0, 0] == video.dynamic_mask[4, row, column]
    undistorted, _ = video.truth([4], video.intrinsics, 60, 90)
    assert abs(float(undistorted[0, row, column]) / depth[0, 0, 0] - 1) > 1e-3


def test_only_objects_in_motion_are_dynamic_and_the_sky_has_no_depth(video):
    assert 0.005 < video.dynamic_mask.mean() < 0.5
    static = render_video(1, place="courtyard", motion="sideways", k1=-0.1, **SIZE)
    assert not static.dynamic_mask.any()
    assert not np.isfinite(static.depth).all() or np.nanmax(static.depth) < 30
    assert not (video.dynamic_mask & ~np.isfinite(video.depth)).any()


@pytest.mark.parametrize(("motion", "moves", "turns"), [("static", False, False), ("rotation", False, True)])
def test_cameras_that_stay_do_not_move(motion, moves, turns):
    poses = render_video(0, motion=motion, shake=False, **SIZE).camera_to_world
    assert bool(np.ptp(poses[:, :3, 3], axis=0).max() > 1e-6) == moves
    assert bool(np.ptp(poses[:, :3, :3], axis=0).max() > 1e-3) == turns


def test_clips_are_consecutive_windows_and_survive_the_data_set(video, tmp_path):
    clips = clips_of(video, 5)
    assert [clip.start for clip in clips] == pytest.approx([0, 5 / 24])
    assert frames_of(video, clips[1]) == range(5, 10)
    assert np.array_equal(clips[1].rgb, video.rgb[5:10])
    write_rendered_dataset(tmp_path, [video], num_frames=5)
    assert read_manifest(tmp_path)["video"].tolist() == [video.name] * 2
    stored = SourceShard(tmp_path, "rendered-0000").read(clips[1].name)
    assert (stored.video, stored.source_sha256) == (video.name, clips[1].source_sha256)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"motion: expected one of sideways, .*, got 'sidewards'"):
        render_video(0, motion="sidewards")
    with pytest.raises(ValueError, match=r"k1: expected a distortion that keeps the corners of the image, got -0\.9"):
        render_video(0, k1=-0.9, num_frames=1)
