"""Tables, defaults and numbers of the documentation are those of the code."""

import re
import tomllib
from pathlib import Path

import dagster as dg
import pytest

from fourdnex import identity
from fourdnex.ablation.spec import BUILT_IN, PUBLIC
from fourdnex.export.nerfstudio import MAX_POINTS
from fourdnex.generation.collection_records import FAILED_FILE
from fourdnex.io.files import read_json
from fourdnex.model.presets import get_preset
from fourdnex.model.recipe import ENCODED_CHOICES, REFERENCE_RECIPE, Recipe
from fourdnex.model.sampling import DISTILLED_SAMPLING
from fourdnex.tracking import CHAMPION, FORMER_CHAMPION, MODEL
from fourdnex.training.lora_settings import LoraTraining
from orchestration.attempts import ATTEMPTS
from tests.docs.pages import ROOT, TEXT, named, own_parser, table


@pytest.fixture(scope="session")
def orchestration_definitions() -> dg.Definitions:
    from orchestration.definitions import defs

    return defs()


@pytest.fixture(scope="session")
def orchestration_graph(orchestration_definitions):
    return orchestration_definitions.resolve_asset_graph()


def test_the_graph_page_lists_the_assets_and_how_they_are_cut(orchestration_graph):
    cuts = {"": None, "shard": "shards", "collection": "collections"}
    told = {name: cuts[row[1]] for row in table("docs/graph.md", "asset", "cut by") for name in named(row[0])}
    nodes = {key.to_user_string(): orchestration_graph.get(key) for key in orchestration_graph.get_all_asset_keys()}
    assert told == {name: node.partitions_def.name if node.partitions_def else None for name, node in nodes.items()}
    (sentence,) = re.findall(r"shows the Dagster graph: (.*?)\. ", TEXT["README.md"])
    assert sorted(named(sentence)) == sorted(nodes)


def test_the_graph_page_lists_the_blocking_checks(orchestration_graph):
    (sentence,) = re.findall(r"blocking checks hold back (.*?)\. ", TEXT["docs/graph.md"].replace("\n", " "))
    blocking = {key.name for key in orchestration_graph.asset_check_keys if orchestration_graph.get(key).blocking}
    assert set(named(sentence)) == blocking


def test_the_graph_page_lists_what_starts_by_itself(orchestration_definitions):
    rows = table("docs/graph.md", "", "when", "what")
    told = {(row[0].split()[0], name) for row in rows for name in named(row[0])}
    sensors = {("sensor", sensor.name) for sensor in orchestration_definitions.sensors}
    (schedule,) = orchestration_definitions.schedules
    assert told == sensors | {("schedule", schedule.name)}
    jobs = {job.name for job in orchestration_definitions.jobs}
    assert {name for row in rows for name in named(row[2])} <= jobs
    (row,) = [row for row in rows if "weekly_retraining" in row[0]]
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * 1", "UTC")
    assert row[1].startswith("Mondays 03:00 UTC; off") and schedule.default_status.value == "STOPPED"
    assert all(sensor.default_status.value == "RUNNING" for sensor in orchestration_definitions.sensors)
    numbers = {3: "three"}
    assert f"{numbers[ATTEMPTS]} times in all" in TEXT["docs/graph.md"].replace("\n", " ")


def test_the_graph_page_names_the_pool(orchestration_definitions):
    users = {
        name: asset.node_def.pool
        for asset in orchestration_definitions.resolve_asset_graph().assets_defs
        if asset.is_executable and asset.keys
        for name in [asset.node_def.name]
    }
    verbs = {
        "annotated_clips": "annotate",
        "training_latents": "encode",
        "adapter": "train",
        "evaluation_report": "evaluate",
        "point_clouds": "generate",
    }
    (sentence,) = re.findall(r"assets that ([\w, ]+) share the pool `gpu`", TEXT["docs/graph.md"].replace("\n", " "))
    told = set(re.split(r", | and ", sentence))
    assert told == {verbs[name] for name, pool in users.items() if pool == "gpu"}


def test_the_settings_table_tells_the_defaults(monkeypatch):
    from orchestration.defs.resources import resources
    from orchestration.demo import DEMO_WORLDS

    for name in [row[0] for row in table("docs/graph.md", "variable", "default")]:
        monkeypatch.delenv(name, raising=False)
    project = resources().resources["project"]
    told = {row[0]: row[1] for row in table("docs/graph.md", "variable", "default")}
    assert told["FOURDNEX_WORKSPACE"] == f"`{Path(project.workspace_dir).relative_to(project.root)}/`"
    assert told["FOURDNEX_MODEL"] == f"`{project.model}`"
    assert told["FOURDNEX_EVALUATION_WORLDS"] == f"{project.evaluation_worlds} (`make demo`: {DEMO_WORLDS})"
    assert told["FOURDNEX_MODELS"] == f"`{Path(get_preset('tiny').location).parent.relative_to(ROOT)}/`"
    options = str(project.training_options).replace("'", '"')
    assert told["FOURDNEX_TRAINING_OPTIONS"] == f"`{{}}`; of `{project.model}` `{options}`"
    assert project.depth_network is None and get_preset("tiny").depth_network == "tiny"
    assert all(get_preset(model).depth_network is None for model in ("wan2.1-i2v-14b-480p", "wan2.1-fun-1.3b-inp"))


def test_the_graph_page_says_how_adapters_begin(monkeypatch):
    from orchestration import training_run
    from orchestration.project import DEPTH_NETWORK_VARIABLE

    for name in (training_run.OPTIONS_VARIABLE, DEPTH_NETWORK_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    starts = []
    for model in ("tiny", "wan2.1-i2v-14b-480p"):
        monkeypatch.setenv(training_run.MODEL_VARIABLE, model)
        starts.append(training_run.options_of_every_run().get("xyz_init", Recipe().xyz_init))
    flat = " ".join(TEXT["docs/graph.md"].split())
    with_network, without = re.findall(r"`xyz_init` is `(\w+)` where a depth network .*? Else it is `(\w+)`", flat)[0]
    assert starts == [with_network, without]


def test_the_graph_page_names_the_options_that_latents_are_encoded_by():
    flat = " ".join(TEXT["docs/graph.md"].split())
    (told,) = re.findall(r"other than those that latents are encoded by \((.*?)\)", flat)
    assert set(named(told)) == set(ENCODED_CHOICES)
    encode = {action.dest for action in own_parser("encode")._actions}
    assert set(ENCODED_CHOICES) <= encode


def test_the_page_of_the_recipe_tells_the_defaults():
    ours, public = Recipe().choices(), REFERENCE_RECIPE.choices()
    told = {named(row[0])[0].removeprefix("--").replace("-", "_"): row[1:3] for row in recipe_rows()}
    assert told == {name: [str(value), str(public[name])] for name, value in ours.items()}
    training = LoraTraining(latents=Path(), output=Path())
    (sentence,) = re.findall(r"belong to training alone: (.*?)\n\n", TEXT["docs/recipe.md"], re.DOTALL)
    for flag, default in re.findall(r"`--([\w-]+)` \(([\d.]+);", sentence.replace("\n", " ")):
        assert float(default) == getattr(training, flag.replace("-", "_")), flag
    for flag, value in re.findall(r"`--([\w-]+)`\s+\([\d.]+; public ([\d.]+)", sentence):
        assert float(value) == PUBLIC[flag.replace("-", "_")], flag


def recipe_rows() -> list[list[str]]:
    return table("docs/recipe.md", "option", "default")


def test_the_built_in_ablations_are_listed():
    (sentence,) = re.findall(r"Built in are (.*?); anything else", TEXT["docs/recipe.md"].replace("\n", " "))
    assert set(named(sentence)) == set(BUILT_IN)


def test_the_page_of_fusions_lists_them_all():
    from typing import get_args

    from fourdnex.model.option_types import FusionName

    rows = table("docs/fusions.md", "`--fusion`", "joined")
    assert [named(row[0])[0] for row in rows] == list(get_args(FusionName))
    (default,) = [row[0] for row in rows if "default" in row[0]]
    assert named(default)[0] == Recipe().fusion


def test_the_page_of_large_models_lists_the_presets():
    from fourdnex.model.presets import _PRESETS

    rows = table("docs/large_models.md", "preset", "transformer")
    assert {named(row[0])[0] for row in rows} == set(_PRESETS) - {"tiny"}
    for row in rows:
        assert f"`{get_preset(named(row[0])[0]).location}`" in row[3]


def test_the_page_of_benchmarks_lists_those_that_can_be_run():
    told = {named(row[0])[0].split()[2].removeprefix("benchmarks.") for row in table("docs/benchmarks.md", "command")}
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    found |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert told == found


def test_the_table_of_exports_is_complete():
    from fourdnex.export import EXPORTERS

    rows = {name: row for row in table("docs/conventions.md", "`--to`", "what") for name in named(row[0])}
    assert set(rows) == set(EXPORTERS)
    (named_formats,) = [row[1] for row in table("README.md", "command", "does") if "fourdnex export" in row[0]]
    assert set(EXPORTERS) <= set(named(named_formats))


def test_the_keys_of_the_identity_are_listed():
    flat = " ".join(TEXT["docs/conventions.md"].split())
    (sentence,) = re.findall(r"as far as it is known: (.*?)\. In a scene", flat)
    assert [name for name in named(sentence) if name != "data.dvc"] == list(identity.KEYS)


def test_the_page_of_the_tiny_base_tells_its_sizes():
    from math import prod

    from safetensors import safe_open

    def millions(part: str) -> float:
        count = 0
        for file in (base / part).glob("*.safetensors"):
            with safe_open(file, "np") as weights:
                count += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())
        return count / 1e6

    base = Path(get_preset("tiny").location)
    vae, transformer = (read_json(base / part / "config.json") for part in ("vae", "transformer"))
    rows = {row[0].split(",")[0]: row[1:] for row in table("docs/tiny_base.md", "part", "class")}
    folders = {"VAE": "vae", "transformer": "transformer", "text encoder": "text_encoder"}
    folders["image encoder"] = "image_encoder"
    assert set(rows) == set(folders)
    for part, folder in folders.items():
        told = re.findall(r"[\d.]+", rows[part][1])[0]
        assert f"{millions(folder):.{len(told.partition('.')[2])}f}" == told, part
    multipliers = "-".join(map(str, vae["dim_mult"]))
    assert f"{vae['z_dim']} channels, base {vae['base_dim']}, multipliers {multipliers}" in rows["VAE"][0]
    heads = f"{transformer['num_attention_heads']} heads of {transformer['attention_head_dim']}"
    layers = f"{transformer['in_channels']} input channels, {transformer['num_layers']} layers"
    assert f"{layers}, {heads}" in rows["transformer"][0]


def test_sizes_and_counts_in_the_text_are_the_codes():
    tiny, large = get_preset("tiny"), get_preset("wan2.1-i2v-14b-480p")
    video = {action.dest: action.default for action in own_parser("videos")._actions}
    training = LoraTraining(latents=Path(), output=Path())
    words = {2: "two", 4: "four"}
    sampling = tiny.sampling
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    ui = (ROOT / "orchestration" / "ui.py").read_text()
    ports = re.findall(r'"--(?:mlflow-|viewer-)?port", type=int, default=(\d+)', ui)
    fragments = {
        "README.md": [
            f"{tiny.num_frames} frames of {tiny.height}x{tiny.width}",
            f"{large.num_frames} frames of {large.height}x{large.width}",
            f"clips of {video['num_frames']} frames of {video['height']}x{video['width']} unless told otherwise",
            f"sample in {large.sampling.num_inference_steps} steps with guidance",
            "Dagster on port {}, MLflow on {}, the scenes on {}".format(*ports),
            f"needs Python {oldest} or later",
            f"`my-scenes/{FAILED_FILE}`",
            f"{words[DISTILLED_SAMPLING['num_inference_steps']]} steps, no guidance",
            f"another version of `{MODEL}`",
            f"alias `{CHAMPION}`",
            f"`{FORMER_CHAMPION}` is the one before",
        ],
        "docs/tiny_base.md": [
            f"{tiny.num_frames} frames of {tiny.height}x{tiny.width} become latents of "
            f"{(tiny.num_frames - 1) // 4 + 1}x{tiny.height // 8}x{tiny.width // 8}",
            f"takes {words[sampling.num_inference_steps]} steps, from {words[sampling.ensemble_size]} noises",
            f"({training.steps} steps of batch {training.batch_size} on",
        ],
        "docs/conventions.md": [f"at most {MAX_POINTS:,} points"],
        "docs/graph.md": [f"opens it in the viewer that `make ui` runs (port {ports[-1]})"],
    }
    flat = {page: re.sub(r"\s+", " ", text) for page, text in TEXT.items()}
    missing = [(page, part) for page, parts in fragments.items() for part in parts if part not in flat[page]]
    assert missing == []
