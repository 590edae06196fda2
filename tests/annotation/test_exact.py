"""Exact annotation of worlds."""

from dataclasses import replace

import numpy as np
import pytest

from fourdnex.annotation import AnnotationError, ExactAnnotator
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world


def test_a_world_gets_its_exact_depth_and_keeps_its_rgb():
    world = render_world(100_003)
    noisy = world.rgb ^ 1  # like compression noise: 48 dB
    video = Clip(name=world.name, rgb=noisy, subset="worlds", caption="said")
    clip = ExactAnnotator().annotate(video)
    assert clip.annotator == "exact" and clip.caption == "said"
    assert np.array_equal(clip.rgb, noisy)
    assert np.array_equal(clip.depth, world.depth)
    assert np.array_equal(clip.camera_to_world, world.camera_to_world)
    assert np.array_equal(clip.dynamic_mask, world.dynamic_mask)


def test_a_clip_of_three_frames_and_another_size():
    world = render_world(100_003, num_frames=3, height=40, width=48)
    clip = ExactAnnotator().annotate(Clip(name=world.name, rgb=world.rgb))
    assert clip.depth.shape == (3, 40, 48)


def test_the_video_of_another_world_fails():
    with pytest.raises(AnnotationError, match=r"the video is not world 100003: .* dB"):
        ExactAnnotator().annotate(replace(render_world(100_004), name="world-000100003"))


def test_a_name_without_a_seed_fails():
    with pytest.raises(AnnotationError, match="not a world"):
        ExactAnnotator().annotate(Clip(name="holiday", rgb=np.zeros((17, 64, 96, 3), np.uint8)))
