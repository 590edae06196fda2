"""Annotation: depth, cameras and confidence for the clips of a data set."""

from fourdnex.annotation.base import AnnotationError, Annotator, ClipAnnotator, VideoClips
from fourdnex.annotation.depth_network import DepthNetwork
from fourdnex.annotation.exact import ExactAnnotator
from fourdnex.annotation.imported import ImportedAnnotator
from fourdnex.annotation.registry import AnnotatorInfo, PluginError, create_annotator, list_annotators
from fourdnex.annotation.sfm import SfmAnnotator
from fourdnex.annotation.shards import annotate_shard, default_annotator

__all__ = [
    "AnnotationError",
    "Annotator",
    "AnnotatorInfo",
    "ClipAnnotator",
    "DepthNetwork",
    "ExactAnnotator",
    "ImportedAnnotator",
    "PluginError",
    "SfmAnnotator",
    "VideoClips",
    "annotate_shard",
    "create_annotator",
    "default_annotator",
    "list_annotators",
]
