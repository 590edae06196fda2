"""Depth networks in videos: alignment with points and dense depth, against exact worlds."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.rendered_videos import clips_of, render_video
from fourdnex.annotation import AnnotationError, create_annotator
from fourdnex.annotation.depth_alignment import align_depth, refine
from fourdnex.annotation.structure_from_motion import Structure
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world

WORLD = render_world(100_001, num_frames=7, height=48, width=72)
SHAPE = (7, 1, 1)


def structure(num_points: int = 60, *, wrong: float = 0.0, without: int | None = None) -> Structure:
    """Points on the pixels of every frame, each observed there only; a share of `wrong` ones has any depth."""
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(7), num_points)
    pixels = rng.integers(WORLD.height, size=len(frames)), rng.integers(WORLD.width, size=len(frames))
    points = WORLD.pointmaps[frames, *pixels].astype(np.float64)
    centers = WORLD.camera_to_world[frames, :3, 3]
    scale = np.where(rng.random(len(frames)) < wrong, rng.uniform(0.2, 5, len(frames)), 1)
    points = centers + (points - centers) * scale[:, None]
    observed = np.arange(7)[:, None] == frames
    if without is not None:
        observed[without] = False
    return Structure(WORLD.intrinsics.astype(np.float64), WORLD.camera_to_world.astype(np.float64), points, observed, 0)


def test_metric_depth_gets_a_factor_per_frame():
    factors = np.array([2, 2.2, 2.1, 2.3, 2.2, 2.5, 2.4]).reshape(SHAPE)
    aligned = align_depth((WORLD.depth * factors).astype(np.float32), structure(300), relative=False)
    assert aligned.dtype == np.float32 and np.allclose(aligned, WORLD.depth, rtol=0.03)


def test_wrong_points_do_not_matter():
    aligned = align_depth(WORLD.depth * np.float32(3), structure(wrong=0.25), relative=False)
    assert np.allclose(aligned, WORLD.depth, rtol=0.01)


def test_relative_depth_gets_a_factor_and_an_offset():
    """Inverse depth of a MiDaS-like network: far is 0.3 instead of 0, with another scale."""
    inverse = 0.7 / WORLD.depth + 0.3
    aligned = align_depth((1 / inverse).astype(np.float32), structure(wrong=0.2), relative=True)
    near = WORLD.depth < np.percentile(WORLD.depth, 95)  # far depth is limited
    assert np.allclose(aligned[near], WORLD.depth[near], rtol=0.01)


def test_depth_of_another_scene_is_refused():
    with pytest.raises(AnnotationError, match="its depth does not fit the points"):
        scrambled = np.random.default_rng(0).permutation(WORLD.depth.ravel()).reshape(WORLD.depth.shape)
        align_depth(scrambled.astype(np.float32), structure(), relative=False)


def test_a_frame_without_points_takes_the_correction_of_its_neighbors():
    factors = np.linspace(1.0, 1.3, 7, dtype=np.float32).reshape(SHAPE)
    aligned = align_depth(WORLD.depth * factors, structure(without=3), relative=False)
    assert np.allclose(aligned[3], WORLD.depth[3], rtol=0.02)


def test_invalid_depth_stays_unknown():
    depth = WORLD.depth.copy()
    depth[0, :5], depth[1, :, :7], depth[2, 4] = np.nan, 0, np.inf
    aligned = align_depth(depth, structure(), relative=False)
    assert np.array_equal(np.isnan(aligned), ~(np.isfinite(depth) & (depth > 0)))


def test_too_few_points_are_refused():
    with pytest.raises(AnnotationError, match="expected depth at 30 points at least, got 28"):
        align_depth(WORLD.depth, structure(4), relative=False)


def test_dense_depth_corrects_its_neighborhood():
    """The network is 10 % too near everywhere; dense depth knows the left third."""
    dense = np.where(np.arange(WORLD.width) < 24, WORLD.depth, np.nan).astype(np.float32)
    depth, confidence = refine(WORLD.depth * np.float32(0.9), dense, np.isfinite(dense).astype(np.float32))
    error = np.abs(depth / WORLD.depth - 1)
    assert error[..., :20].max() < 0.01 and (confidence[..., :20] > 0.75).all()
    assert (error[..., -20:] > 0.05).all(), "nothing is known there"
    assert confidence[..., -20:].max() < 0.2, "exp(-log(1 / 0.9) / 0.05) is 0.12"
    assert (np.diff(error.mean(axis=(0, 1))) > -1e-3).all(), "the correction fades"


def test_noise_of_dense_depth_is_averaged():
    rng = np.random.default_rng(0)
    dense = (WORLD.depth * np.exp(0.05 * rng.normal(size=WORLD.depth.shape))).astype(np.float32)
    ones = np.ones_like(dense)
    depth, confidence = refine(WORLD.depth, dense, ones)
    assert np.abs(depth / WORLD.depth - 1).mean() < 0.4 * np.abs(dense / WORLD.depth - 1).mean()
    assert 0.3 < confidence.mean() < 0.7


def test_frames_without_dense_depth_have_no_confidence():
    dense, ones = WORLD.depth.copy(), np.ones_like(WORLD.depth)
    dense[2] = np.nan
    own = WORLD.depth.copy()
    own[1, 3, 4] = np.nan
    depth, confidence = refine(own, dense, ones)
    assert np.array_equal(depth[2], own[2]) and (confidence[2] == 0).all()
    assert confidence[1, 3, 4] == 0 and np.isnan(depth[1, 3, 4]) and (confidence[0] > 0.99).all()


class OneClip:
    """A video of one clip."""

    def __init__(self, clip: Clip) -> None:
        self.names, self.clip = (clip.name,), clip

    def read(self, name: str) -> Clip:
        return self.clip


def test_a_static_camera_is_refused_as_by_sfm():
    video = OneClip(Clip(name="still", rgb=np.repeat(WORLD.rgb[:1], 9, axis=0)))
    ((_, outcome),) = create_annotator("depth").annotate_video(video, ["still"])
    with pytest.raises(AnnotationError, match="the camera does not move"):
        raise outcome


def test_the_version_names_the_network():
    assert create_annotator("depth").version == create_annotator("depth", depth_network="tiny").version
    assert create_annotator("depth").version.startswith("1-")
    with pytest.raises(FileNotFoundError, match="expected a folder with a depth network"):
        create_annotator("depth", depth_network="./none")


@pytest.mark.slow
def test_the_tiny_network_knows_all_pixels_of_a_video():
    video = render_video(303, num_frames=17, motion="orbit", height=240, width=360)
    (source,) = clips_of(video)
    ((_, clip),) = create_annotator("depth").annotate_video(OneClip(source), [source.name], max_pixels=160 * 240)
    assert clip.annotator == "depth" and np.isfinite(clip.depth).all()
    truth, _ = video.truth(range(17), clip.intrinsics, clip.height, clip.width)
    known = np.isfinite(truth)  # the sky has no depth
    sure = known & (clip.confidence > 0.3)
    assert sure.sum() > 0.4 * known.sum()
    scale = np.median((truth / clip.depth)[sure])
    error = np.abs(clip.depth * scale / truth - 1)
    assert error[sure].mean() < 0.06 and error[known].mean() < 0.15
    assert spearmanr(clip.confidence[known][::17], error[known][::17])[0] < -0.4
