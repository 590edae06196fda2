"""Curation: scores of annotated clips, and the rules that keep or reject them."""

from fourdnex.curation.report import CurationReport, curate, score_shard, thumbnails
from fourdnex.curation.rules import Rules, judge
from fourdnex.curation.scores import Scores, score_clip

__all__ = ["CurationReport", "Rules", "Scores", "curate", "judge", "score_clip", "score_shard", "thumbnails"]
