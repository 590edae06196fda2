"""Annotation: raw videos to clips with depth, cameras and confidence."""

from fourdnex.annotation.base import AnnotationError, Annotator
from fourdnex.annotation.depth_network import DepthNetwork
from fourdnex.annotation.exact import ExactAnnotator
from fourdnex.annotation.imported import GivenAnnotator
from fourdnex.annotation.sfm import SfmAnnotator
from fourdnex.annotation.shards import annotate_shard, annotator_for

__all__ = [
    "AnnotationError",
    "Annotator",
    "DepthNetwork",
    "ExactAnnotator",
    "GivenAnnotator",
    "SfmAnnotator",
    "annotate_shard",
    "annotator_for",
]
