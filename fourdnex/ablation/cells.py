"""One cell of an ablation, a variant with a seed: encoded, trained and evaluated. Equal intermediates are shared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fourdnex.ablation.spec import AblationSpec
from fourdnex.annotation import annotate_shard
from fourdnex.clip import Clip
from fourdnex.datasets.annotated import read_annotated_table
from fourdnex.datasets.build import build_data
from fourdnex.datasets.manifest import list_shards
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.evaluation.benchmark import EXACT, Evaluation, score_adapter
from fourdnex.evaluation.report import metric_means
from fourdnex.io.files import atomic_path, read_json
from fourdnex.latents.encoding import encode_shard, estimate_statistics, release_encoders
from fourdnex.latents.shards import STATISTICS_FILE, shard_fingerprint
from fourdnex.model.presets import get_preset
from fourdnex.model.recipe import Recipe, recorded
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.trainer import train

GENERATION_ONLY = {"decode": Recipe().decode}
"""Fields that training does not depend on, with their defaults; variants that differ only in these share an adapter."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A variant with a seed."""

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Stem of the cell's files: letters, digits and hyphens, unique per cell."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in self.variant)
        return f"{plain}-{hashlib.sha256(self.variant.encode()).hexdigest()[:6]}-seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class CellRunner:
    """Runs cells on the same training worlds, held-out worlds and number of steps."""

    spec: AblationSpec
    out: Path
    steps: int
    worlds: int
    """Number of training worlds."""
    held_out: int
    """Number of held-out worlds."""
    model: str
    progress: Callable[[str], None]

    def settings(self, cell: Cell) -> LoraTraining:
        """Training settings of the cell; cells with equal settings have the same output folder."""
        changes = self.spec.settings_of(cell.variant) | GENERATION_ONLY
        run = LoraTraining(
            **changes,
            latents=self.latents(self.recipe(cell)),
            output=Path(),
            model=self.model,
            steps=self.steps,
            seed=cell.seed,
            num_samples=0,
            track=False,
        )
        hashed = recorded(asdict(run)) | {"latents": run.latents.name}
        del hashed["held_out_clips"]  # does not change the adapter
        key = hashlib.sha256(json.dumps(hashed, default=str, sort_keys=True).encode()).hexdigest()[:16]
        return replace(run, output=self.out / "adapters" / key)

    def recipe(self, cell: Cell) -> Recipe:
        """Recipe that the cell generates with."""
        changes = self.spec.settings_of(cell.variant)
        return Recipe(**{name: value for name, value in changes.items() if name in Recipe().choices()})

    def run(self, cell: Cell) -> dict[str, Any]:
        """Encode, train and evaluate.

        Returns:
            Metrics over the held-out worlds, the training loss, and the adapter's norm and folder name.

        Raises:
            ValueError: from any of the three steps.
        """
        settings = self.settings(cell)
        self.encode(settings)
        summary = train(settings)
        evaluation = Evaluation(adapter=settings.output, out=self.out, model=self.model, num_worlds=self.held_out)
        recipe = self.recipe(cell)
        depth_network = EXACT if recipe.xyz_init == "pointmap" else None
        evaluation = replace(evaluation, seed=cell.seed, depth_network=depth_network)
        rows = score_adapter(evaluation, self.clips, recipe=recipe)
        table = pd.DataFrame(rows).assign(world=[clip.name for clip in self.clips])
        with atomic_path(self.out / "cells" / f"{cell.name}.parquet") as path:
            table.to_parquet(path, index=False)
        means = {key: math.nan if value is None else value for key, value in metric_means(table).items()}
        return means | {"loss": summary.loss, "adapter_norm": summary.adapter_norm, "adapter": settings.output.name}

    def latents(self, recipe: Recipe) -> Path:
        """Folder of the latents for a recipe.

        With a condition encoded apart, one folder holds the conditions for both values of `xyz_init`.
        """
        joint = "" if recipe.condition == "apart" else f"-joint-{recipe.xyz_init}"
        return self.out / "latents" / f"{recipe.normalization}{joint}"

    def encode(self, recipe: Recipe) -> None:
        """Encode the training worlds for a recipe, and estimate the latent statistics."""
        folder, curated = self.latents(recipe), self.out / "curated.parquet"
        recipes = [self.recipe(Cell(variant=variant, seed=0)) for variant in self.spec.variants]
        xyz_inits = {other.xyz_init for other in recipes if self.latents(other) == folder}
        options: dict[str, Any] = {
            "model": self.model,
            "normalization": recipe.normalization,
            "xyz_init": "pointmap" if "pointmap" in xyz_inits else "plane",
            "condition": recipe.condition,
        }
        reports = [encode_shard(self.annotated, shard, curated, folder, **options) for shard in self.shards]
        release_encoders()  # a large base's transformer needs the memory
        if failed := [name for report in reports for name in report.failed]:
            raise ValueError(f"latents: expected every world encoded, {len(failed)} were not, first {failed[0]}")
        statistics = folder / STATISTICS_FILE
        fingerprints = {shard: shard_fingerprint(folder, shard) for shard in self.shards}
        if not statistics.exists() or read_json(statistics).get("shards") != fingerprints:
            self.progress(f"encoded {sum(report.requested for report in reports)} worlds into {folder.name}")
            estimate_statistics(folder, self.shards)

    @cached_property
    def shards(self) -> list[str]:
        """Shards of the training worlds, rendered and exactly annotated once."""
        data = self.out / "data"
        if not (data / "manifest.parquet").exists():
            build_data(data, num_worlds=self.worlds, with_real=False, **self.size)
        shards = list_shards(data)
        names = []
        for shard in shards:
            annotate_shard(data, shard, self.annotated)
            names += [(shard, name) for name in read_annotated_table(self.annotated, shard)["name"]]
        if len(names) != self.worlds:
            raise ValueError(f"worlds: expected {self.worlds} in {data}, got {len(names)}; choose another folder")
        with atomic_path(self.out / "curated.parquet") as path:
            pd.DataFrame(names, columns=["shard", "name"]).assign(accepted=True).to_parquet(path, index=False)
        return shards

    @property
    def annotated(self) -> Path:
        """Folder of the annotated training worlds."""
        return self.out / "annotated"

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """Held-out worlds at the base's size."""
        return [render_world(seed, **self.size) for seed in HELD_OUT_SEEDS[: self.held_out]]

    @property
    def size(self) -> dict[str, Any]:
        """Frames, height and width of all worlds: the base's size."""
        preset = get_preset(self.model)
        return {"num_frames": preset.num_frames, "height": preset.height, "width": preset.width}
