"""The transfer format: round trip of points, and motion separated from camera motion."""

import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fourdnex.scene import Scene4D
from fourdnex.viewer import frames
from fourdnex.viewer.frames import describe, frame_block, pixel_stride, point_motion


def decode(block, height, width):
    """Reference decoder, like the page's: depth, confidence levels or None, and the image."""
    depth_bytes, confidence_bytes, image_bytes, low, step = struct.unpack_from("<3I2f", block)
    assert len(block) == 20 + depth_bytes + confidence_bytes + image_bytes
    planes = zlib.decompress(block[20 : 20 + depth_bytes])
    codes, size = np.zeros((height, width), np.uint16), height * width
    for y in range(height):
        value = 0
        for x in range(width):
            i = y * width + x
            zigzag = planes[i] | planes[size + i] << 8
            value = (value + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535
            codes[y, x] = value
    depth = np.where(codes > 0, np.exp(low + (codes.astype(np.float64) - 1) * step), np.nan)
    rest = block[20 + depth_bytes :]
    confidence = None
    if confidence_bytes:
        confidence = np.frombuffer(zlib.decompress(rest[:confidence_bytes]), np.uint8).reshape(height, width)
    image = cv2.imdecode(np.frombuffer(rest[confidence_bytes:], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    return depth, confidence, image


def test_frame_block_round_trips_depth_confidence_and_color(scene):
    holes = scene.depth.copy()
    holes[1, 3:9, 5:] = np.nan
    holes[1, 0, 0] = np.nan
    holed = replace(scene, depth=holes)
    depth, confidence, image = decode(frame_block(holed, 1), 48, 72)
    np.testing.assert_array_equal(np.isnan(depth), np.isnan(holes[1]))
    np.testing.assert_allclose(depth, holes[1], rtol=1.01e-4)
    np.testing.assert_allclose(confidence / 255, scene.confidence[1], atol=0.5 / 255 + 1e-6)
    assert np.abs(image.astype(int) - scene.rgb[1]).mean() < 3


def test_frame_block_without_depth_and_with_constant_depth(scene):
    depth = scene.depth.copy()
    depth[0], depth[1] = np.nan, 2.5
    edge_case = replace(scene, depth=depth, confidence=None)
    empty, confidence, _ = decode(frame_block(edge_case, 0), 48, 72)
    assert np.isnan(empty).all() and confidence is None
    np.testing.assert_allclose(decode(frame_block(edge_case, 1), 48, 72)[0], 2.5, rtol=1e-5)


def test_large_scenes_are_subsampled_with_matching_intrinsics(scene, monkeypatch):
    assert pixel_stride(49, 480, 720) == 1
    assert pixel_stride(49, 1080, 1920) == 3
    monkeypatch.setattr(frames, "MAX_POINTS", scene.depth.size // 3)
    depth, _, image = decode(frame_block(scene, 2), 24, 36)
    np.testing.assert_allclose(depth, scene.depth[2, ::2, ::2], rtol=1.01e-4)
    assert image.shape == (24, 36, 3)
    description = describe(scene, title="world")
    assert (description["height"], description["width"]) == (24, 36)
    fx, fy, cx, cy, _ = description["intrinsics"]
    # Pixel (10, 7) of the subsampled image is pixel (20, 14) of the full image: its ray must not change.
    k = scene.intrinsics
    np.testing.assert_allclose([(10 - cx) / fx, (7 - cy) / fy], [(20 - k[0, 2]) / k[0, 0], (14 - k[1, 2]) / k[1, 1]])
    assert "subsampled with stride 2" in dict(description["details"])["size"]


def test_details_flatten_the_provenance_and_omit_none(scene):
    details = dict(describe(scene, title="world")["details"])
    assert details == {"size": "5 frames of 72 × 48", "adapter identity / git commit": "abc", "rmse": "0.0123457"}


def wall(num_frames, depth, poses=None):
    """A wall that fills 16 x 24 pixels, with one depth per frame."""
    return Scene4D(
        rgb=np.zeros((num_frames, 16, 24, 3), np.uint8),
        depth=np.broadcast_to(np.asarray(depth, np.float32).reshape(-1, 1, 1), (num_frames, 16, 24)).copy(),
        intrinsics=np.array([[20, 0, 11.5], [0, 20, 7.5], [0, 0, 1]], np.float32),
        camera_to_world=np.tile(np.eye(4), (num_frames, 1, 1)) if poses is None else poses,
    )


def test_motion_of_a_receding_wall_is_its_displacement_along_the_line_of_sight():
    motion = point_motion(wall(2, [2.0, 2.5]), 0)
    y, x = np.mgrid[:16, :24]
    expected = 0.5 * np.sqrt(1 + ((x - 11.5) / 20) ** 2 + ((y - 7.5) / 20) ** 2)
    np.testing.assert_allclose(motion[:-1, :-1], expected[:-1, :-1], rtol=1e-5)


def test_motion_of_a_point_occluded_in_one_neighbor_comes_from_the_other():
    """An occluder in one neighboring frame is not mistaken for motion of the wall."""
    motion = point_motion(wall(3, [2.0, 2.0, 1.0]), 1)
    np.testing.assert_allclose(motion[:-1, :-1], 0, atol=1e-6)
    assert np.isnan(point_motion(wall(2, [2.0, 1.0]), 0)).all()


def test_camera_motion_gives_static_points_no_motion(world, scene):
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 2, 3] = [0, 0.25, 0.5]  # towards the wall
    motion = point_motion(wall(3, [2.0, 1.75, 1.5], poses), 1)
    assert np.nanmax(motion) < 1e-5
    motion = point_motion(scene, 2)
    static, moving = motion[~world.dynamic_mask[2]], motion[world.dynamic_mask[2]]
    assert np.nanmedian(static) < 1e-4 * np.nanmedian(scene.depth)
    assert np.nanpercentile(moving, 75) > 20 * np.nanmedian(static)


def test_motion_of_a_single_frame_is_unknown(scene):
    assert np.isnan(point_motion(wall(1, 2.0), 0)).all()
    assert describe(wall(1, 2.0), title="wall")["motion_range"] == pytest.approx(2e-3)
