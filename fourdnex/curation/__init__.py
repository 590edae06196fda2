"""Curation: quality scores of annotated clips, and rules that accept or reject them."""

from fourdnex.curation.report import CurationReport, curate, score_shard, thumbnails
from fourdnex.curation.rules import Rules, rejection_reasons
from fourdnex.curation.scores import Scores, score_clip

__all__ = [
    "CurationReport",
    "Rules",
    "Scores",
    "curate",
    "rejection_reasons",
    "score_clip",
    "score_shard",
    "thumbnails",
]
