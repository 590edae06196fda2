"""Curation: quality scores of annotated clips, and rules that accept or reject them."""

from fourdnex.curation.curated import CurationReport, curate
from fourdnex.curation.explain import explain, explanation_lines
from fourdnex.curation.previews import thumbnails
from fourdnex.curation.report import write_report
from fourdnex.curation.rules import Rules, rejection_reasons
from fourdnex.curation.rules_file import read_rules, write_rules
from fourdnex.curation.score_tables import score_shard
from fourdnex.curation.scores import Scores, score_clip
from fourdnex.curation.set_rules import SetRules

__all__ = [
    "CurationReport",
    "Rules",
    "Scores",
    "SetRules",
    "curate",
    "explain",
    "explanation_lines",
    "read_rules",
    "rejection_reasons",
    "score_clip",
    "score_shard",
    "thumbnails",
    "write_report",
    "write_rules",
]
