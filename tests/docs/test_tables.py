"""Tables, defaults and numbers in the documentation match the code."""

import re
import tomllib
from pathlib import Path

import dagster as dg
import pytest

from fourdnex import identity
from fourdnex.ablation.spec import BUILT_IN, REFERENCE
from fourdnex.export.nerfstudio import MAX_POINTS
from fourdnex.generation.collection_records import FAILED_FILE
from fourdnex.io.files import read_json
from fourdnex.model.presets import get_preset
from fourdnex.model.recipe import ENCODED_CHOICES, REFERENCE_RECIPE, Recipe
from fourdnex.model.sampling import DISTILLED_SAMPLING
from fourdnex.tracking import CHAMPION, FORMER_CHAMPION, MODEL
from fourdnex.training.lora_settings import LoraTraining
from orchestration.attempts import MAX_ATTEMPTS
from tests.docs.pages import ROOT, TEXT, command_parser, flat, inline_code, spans, table


@pytest.fixture(scope="session")
def orchestration_definitions() -> dg.Definitions:
    """Definitions of the Dagster code location."""
    from orchestration.definitions import defs

    return defs()


@pytest.fixture(scope="session")
def orchestration_graph(orchestration_definitions):
    return orchestration_definitions.resolve_asset_graph()


def test_graph_page_lists_assets_and_their_partitions(orchestration_graph):
    partitions = {"": None, "shard": "shards", "collection": "collections"}
    rows = table("docs/graph.md", "asset", "partitioned by")
    documented = {name: partitions[row[1]] for row in rows for name in inline_code(row[0])}
    nodes = {key.to_user_string(): orchestration_graph.get(key) for key in orchestration_graph.get_all_asset_keys()}
    actual = {name: node.partitions_def.name if node.partitions_def else None for name, node in nodes.items()}
    assert documented == actual


def test_graph_page_names_blocking_checks(orchestration_graph):
    blocking = {key.name for key in orchestration_graph.asset_check_keys if orchestration_graph.get(key).blocking}
    assert blocking <= set(spans("docs/graph.md"))


def test_graph_page_lists_sensors_and_schedules(orchestration_definitions):
    rows = table("docs/graph.md", "trigger", "when", "starts")
    documented = {(row[0].split()[0], name) for row in rows for name in inline_code(row[0])}
    sensors = {("sensor", sensor.name) for sensor in orchestration_definitions.sensors}
    (schedule,) = orchestration_definitions.schedules
    assert documented == sensors | {("schedule", schedule.name)}
    jobs = {job.name for job in orchestration_definitions.jobs}
    assert {name for row in rows for name in inline_code(row[2])} <= jobs
    (row,) = [row for row in rows if "weekly_retraining" in row[0]]
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * 1", "UTC")
    assert row[1].startswith("Mondays 03:00 UTC; off") and schedule.default_status.value == "STOPPED"
    stopped = {sensor.name for sensor in orchestration_definitions.sensors if sensor.default_status.value != "RUNNING"}
    assert stopped == {name for row in rows if "off until" in row[1] for name in inline_code(row[0])} - {schedule.name}
    numbers = {3: "three"}
    assert f"{numbers[MAX_ATTEMPTS]} times in " in flat("docs/graph.md")


def test_graph_page_names_assets_of_the_gpu_pool(orchestration_definitions):
    pools = {
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
        "champion": "promote",
        "point_clouds": "generate",
    }
    (sentence,) = re.findall(r"assets that ([\w, ]+) share the pool `gpu`", flat("docs/graph.md"))
    assert set(re.split(r", | and ", sentence)) == {verbs[name] for name, pool in pools.items() if pool == "gpu"}


def test_table_of_settings_matches_defaults(monkeypatch):
    from orchestration.defs.resources import resources
    from orchestration.demo import DEMO_WORLDS

    for name in [row[0] for row in table("docs/graph.md", "variable", "default")]:
        monkeypatch.delenv(name, raising=False)
    project = resources().resources["project"]
    documented = {row[0]: row[1] for row in table("docs/graph.md", "variable", "default")}
    assert documented["FOURDNEX_WORKSPACE"] == f"`{Path(project.workspace_dir).relative_to(project.root)}/`"
    assert documented["FOURDNEX_MODEL"] == f"`{project.model}`"
    assert documented["FOURDNEX_EVALUATION_WORLDS"] == f"{project.evaluation_worlds} (`make demo`: {DEMO_WORLDS})"
    assert documented["FOURDNEX_MODELS"] == f"`{Path(get_preset('tiny').location).parent.relative_to(ROOT)}/`"
    options = str(project.training_options).replace("'", '"')
    assert documented["FOURDNEX_TRAINING_OPTIONS"] == f"`{{}}`; of `{project.model}` `{options}`"
    assert project.depth_network is None and get_preset("tiny").depth_network == "tiny"
    assert all(get_preset(model).depth_network is None for model in ("wan2.1-i2v-14b-480p", "wan2.1-fun-1.3b-inp"))


def test_graph_page_names_xyz_init_with_and_without_depth_network(monkeypatch):
    from orchestration import training_run
    from orchestration.project import DEPTH_NETWORK_VARIABLE

    for name in (training_run.OPTIONS_VARIABLE, DEPTH_NETWORK_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    defaults = []
    for model in ("tiny", "wan2.1-i2v-14b-480p"):
        monkeypatch.setenv(training_run.MODEL_VARIABLE, model)
        defaults.append(training_run.default_training_options().get("xyz_init", Recipe().xyz_init))
    text = flat("docs/graph.md")
    pattern = r"`xyz_init` is `(\w+)` (?:where|if) a depth network .*?(?:Else|Otherwise) it is `(\w+)`"
    with_network, without = re.findall(pattern, text)[0]
    assert defaults == [with_network, without]


def test_graph_page_names_the_options_of_encoding():
    (sentence,) = re.findall(r"other than those that latents are encoded (?:by|with) \((.*?)\)", flat("docs/graph.md"))
    assert set(inline_code(sentence)) == set(ENCODED_CHOICES)
    assert set(ENCODED_CHOICES) <= {action.dest for action in command_parser("encode")._actions}


def test_recipe_page_lists_defaults_and_reference_values():
    default, reference = Recipe().choices(), REFERENCE_RECIPE.choices()
    rows = table("docs/recipe.md", "option", "default", "reference")
    documented = {inline_code(row[0])[0].removeprefix("--").replace("-", "_"): row[1:3] for row in rows}
    assert documented == {name: [str(value), str(reference[name])] for name, value in default.items()}
    training = LoraTraining(latents=Path(), output=Path())
    (sentence,) = re.findall(r"belong to training alone: (.*?)\n\n", TEXT["docs/recipe.md"], re.DOTALL)
    for flag, value in re.findall(r"`--([\w-]+)` \(([\d.]+);", sentence.replace("\n", " ")):
        assert float(value) == getattr(training, flag.replace("-", "_")), flag
    for flag, value in re.findall(r"`--([\w-]+)`\s+\([\d.]+; (?:public|reference) ([\d.]+)", sentence):
        assert float(value) == REFERENCE[flag.replace("-", "_")], flag


def test_recipe_page_lists_built_in_ablations():
    (sentence,) = re.findall(r"Built in are (.*?); anything else", flat("docs/recipe.md"))
    assert set(inline_code(sentence)) == set(BUILT_IN)


def test_fusion_page_lists_all_fusions():
    from typing import get_args

    from fourdnex.model.option_types import FusionName

    rows = table("docs/fusions.md", "`--fusion`", "joined")
    assert [inline_code(row[0])[0] for row in rows] == list(get_args(FusionName))
    (default,) = [row[0] for row in rows if "default" in row[0]]
    assert inline_code(default)[0] == Recipe().fusion


def test_large_models_page_lists_presets():
    from fourdnex.model.presets import _PRESETS

    rows = table("docs/large_models.md", "preset", "transformer")
    assert {inline_code(row[0])[0] for row in rows} == set(_PRESETS) - {"tiny"}
    for row in rows:
        assert f"`{get_preset(inline_code(row[0])[0]).location}`" in row[3]


def test_benchmark_page_lists_all_scripts():
    rows = table("docs/benchmarks.md", "command")
    documented = {inline_code(row[0])[0].split()[2].removeprefix("benchmarks.") for row in rows}
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    scripts |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert documented == scripts


def test_tables_of_export_formats_are_complete():
    from fourdnex.export import EXPORTERS

    rows = {name: row for row in table("docs/conventions.md", "`--to`", "what") for name in inline_code(row[0])}
    assert set(rows) == set(EXPORTERS)
    (formats,) = [row[1] for row in table("README.md", "command", "does") if "fourdnex export" in row[0]]
    assert set(EXPORTERS) <= set(inline_code(formats))


def test_conventions_page_lists_keys_of_the_identity():
    (sentence,) = re.findall(r"null for unknown values: (.*?)\. In a scene", flat("docs/conventions.md"))
    assert [name for name in inline_code(sentence) if name != "data.dvc"] == list(identity.KEYS)


def test_glossary_lists_former_names():
    """Each pair of a former and a current name is in one row of the table."""
    from fourdnex.ablation.spec import FORMER_NAMES
    from fourdnex.commands.renamed_options import RENAMED_OPTIONS, RENAMED_VALUES
    from fourdnex.io import renamed

    rows = table("docs/glossary.md", "former name", "today's name", "where")
    documented = {pair for row in rows for pair in zip(inline_code(row[0]), inline_code(row[1]), strict=False)}
    documented |= {(inline_code(row[0])[-1], inline_code(row[1])[-1]) for row in rows}
    pairs = [RENAMED_OPTIONS, FORMER_NAMES, renamed.RECIPE_KEYS, renamed.TRAINING_KEYS, renamed.METHODS]
    pairs += [renamed.SCENE_KEYS, renamed.RENDER_KEYS, renamed.COLUMNS, *renamed.RECIPE_VALUES.values()]
    pairs += RENAMED_VALUES.values()
    assert {pair for names in pairs for pair in names.items()} - documented == set()


def test_tiny_base_page_lists_sizes_of_the_components():
    from math import prod

    from safetensors import safe_open

    def millions(part: str) -> float:
        """Parameters of a component in millions."""
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
        documented = re.findall(r"[\d.]+", rows[part][1])[0]
        assert f"{millions(folder):.{len(documented.partition('.')[2])}f}" == documented, part
    multipliers = "-".join(map(str, vae["dim_mult"]))
    assert f"{vae['z_dim']} channels, base {vae['base_dim']}, multipliers {multipliers}" in rows["VAE"][0]
    heads = f"{transformer['num_attention_heads']} heads of {transformer['attention_head_dim']}"
    layers = f"{transformer['in_channels']} input channels, {transformer['num_layers']} layers"
    assert f"{layers}, {heads}" in rows["transformer"][0]


def test_sizes_counts_and_names_in_the_text_match_the_code():
    """Each fact is stated on some page of the documentation."""
    tiny, large = get_preset("tiny"), get_preset("wan2.1-i2v-14b-480p")
    video = {action.dest: action.default for action in command_parser("videos")._actions}
    training = LoraTraining(latents=Path(), output=Path())
    words = {2: "two", 4: "four"}
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    ui = (ROOT / "orchestration" / "ui.py").read_text()
    ports = re.findall(r'"--(?:mlflow-|viewer-)?port", type=int, default=(\d+)', ui)
    latent_size = f"{(tiny.num_frames - 1) // 4 + 1}x{tiny.height // 8}x{tiny.width // 8}"
    patterns = [
        f"{tiny.num_frames} frames of {tiny.height}x{tiny.width}.{{0,60}}latents of {latent_size}",
        f"{large.num_frames} frames of {large.height}x{large.width}",
        f"clips of {video['num_frames']} frames.{{0,80}}at most {video['max_size']} pixels",
        f"{large.sampling.num_inference_steps} steps with guidance",
        f"{words[DISTILLED_SAMPLING['num_inference_steps']]} steps, (no|without) guidance",
        f"{words[tiny.sampling.num_inference_steps]} steps, from {words[tiny.sampling.ensemble_size]} noises",
        f"{training.steps} steps of batch {training.batch_size}",
        "Dagster on port {}, MLflow on (port )?{},? (and )?the scenes on (port )?{}".format(*ports),
        f"port {ports[-1]}",
        f"Python {re.escape(oldest)}",
        f"[`/]{FAILED_FILE}`",
        f"`{MODEL}`",
        f"`{CHAMPION}`",
        f"`{FORMER_CHAMPION}`",
        f"at most {MAX_POINTS:,} points",
    ]
    text = " ".join(flat(page) for page in TEXT)
    assert [pattern for pattern in patterns if not re.search(pattern, text)] == []
