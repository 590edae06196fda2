"""The retraining job."""

import dagster as dg

CHAIN = (
    "source_clips",
    "base_model",
    "annotated_clips",
    "curation_scores",
    "curated_manifest",
    "training_latents",
    "latent_statistics",
    "adapter",
    "evaluation_report",
    "challenger",
    "champion",
)

retraining = dg.define_asset_job(
    "retraining",
    selection=dg.AssetSelection.assets(*CHAIN),
    description="Everything from the clips to a champion, over all shards, in one run. Finished work is not repeated.",
)
