"""Metrics of depth, camera poses, points and images, and the benchmark of adapters."""

from fourdnex.evaluation.consistency import Consistency, collection_consistency, scene_consistency
from fourdnex.evaluation.depth import DepthMetrics, depth_metrics
from fourdnex.evaluation.points import PointMetrics, point_metrics
from fourdnex.evaluation.pose import PoseMetrics, pose_metrics
from fourdnex.metrics.psnr import psnr
from fourdnex.metrics.ssim import ssim

__all__ = [
    "Consistency",
    "DepthMetrics",
    "PointMetrics",
    "PoseMetrics",
    "collection_consistency",
    "depth_metrics",
    "point_metrics",
    "pose_metrics",
    "psnr",
    "scene_consistency",
    "ssim",
]
