"""The documentation says what the code does: commands, options, defaults, tables, names, files and links."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fourdnex import identity
from fourdnex.ablation.spec import BUILT_IN, PUBLIC
from fourdnex.cli import _parser
from fourdnex.commands import COMMANDS
from fourdnex.export.colmap import MAX_POINTS
from fourdnex.files import read_json
from fourdnex.generation.collections import SET_ASIDE_FILE
from fourdnex.model.presets import get_preset
from fourdnex.model.recipe import ENCODED_CHOICES, PUBLIC_RECIPE, Recipe
from fourdnex.model.sampling import DISTILLED_SAMPLING
from fourdnex.telemetry import SWITCHES
from fourdnex.tracking import CHAMPION, FORMER_CHAMPION, MODEL
from fourdnex.training.settings import LoraTraining
from orchestration.attempts import ATTEMPTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "mlflow" / "README.md"]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:^|[\s/])fourdnex ([a-z][a-z-]*)(.*)$")


def blocks(page: str, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(TEXT[page]) if language in languages]


def spans(page: str) -> list[str]:
    """What stands in single backquotes, outside code blocks."""
    return _SPAN.findall(_FENCE.sub("", TEXT[page]))


def shell_lines(page: str) -> list[str]:
    lines = "\n".join(blocks(page, "", "sh", "bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def tables(page: str) -> list[list[list[str]]]:
    """Every table of a page as rows of cells, the head first."""
    found = re.findall(r"(?:^\|.*\n)+", TEXT[page] + "\n", re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in table.splitlines()] for table in found]
    cells = [[[cell.strip() for cell in row] for row in table] for table in rows]
    return [[row for row in table if not all(re.fullmatch(":?-+:?", cell) for cell in row)] for table in cells]


def table(page: str, *head: str) -> list[list[str]]:
    """The rows of the one table whose head begins with `head`."""
    (found,) = [rows for rows in tables(page) if tuple(rows[0][: len(head)]) == head]
    return found[1:]


def named(cell: str) -> list[str]:
    return _SPAN.findall(cell)


def own_parser(command: str) -> argparse.ArgumentParser:
    actions = _parser([command])._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices[command]


def lenient_parser(command: str) -> argparse.ArgumentParser:
    """The command's own parser, which takes any part of a call: values are checked, what is missing is not."""
    parser = own_parser(command)
    for action in parser._actions:
        action.required = False
        if not action.option_strings:
            action.nargs = "?"
    for group in parser._mutually_exclusive_groups:
        group.required = False
    return parser


def mistake(parser: argparse.ArgumentParser, arguments: list[str], capsys: Any) -> str:
    """What the parser says against the arguments; empty where it takes them. The last option may go without value."""
    try:
        parser.parse_args(arguments)
    except SystemExit as ended:
        said = capsys.readouterr().err.strip()
        named_alone = re.search(r"expected (one|at least one|\d+) arguments?$", said) and arguments[-1][:2] == "--"
        return "" if ended.code == 0 or named_alone else said.splitlines()[-1]
    return ""


def filled(parser: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """Arguments with values in the place of words such as FILE after an option: one of its choices, or 1."""
    values: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        action = parser._option_string_actions.get(before)
        values.append(str(next(iter(action.choices or [1]))) if action is not None and word.isupper() else word)
    return values


def called(text: str) -> tuple[str, list[str]] | None:
    """Command and arguments of a call of `fourdnex` in a line of shell, up to what it is piped into."""
    found = _COMMAND.search(text)
    return (found[1], shlex.split(re.split(r"[|;&>]", found[2])[0], comments=True)) if found else None


CALLS = [(page, line) for page in TEXT for line in shell_lines(page) if called(line) and not line.startswith("#")]


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{page}: {line[:60]}" for page, line in CALLS])
def test_every_call_in_a_code_block_parses(page, line, capsys):
    command, arguments = called(line)
    assert command in COMMANDS
    assert mistake(_parser([command]), [command, *arguments], capsys) == ""


@pytest.mark.parametrize("page", TEXT)
def test_every_call_in_the_text_names_a_command_and_its_options(page, capsys):
    wrong = {}
    for span in spans(page):
        if (call := called(span)) and call[0] != "command" and span.split()[-1] != "COMMAND":
            if call[0] not in COMMANDS:
                wrong[span] = "no such command"
                continue
            parser = lenient_parser(call[0])
            wrong |= {span: said} if (said := mistake(parser, filled(parser, call[1]), capsys)) else {}
    assert wrong == {}


@pytest.mark.parametrize("page", TEXT)
def test_every_option_in_the_text_exists_and_takes_its_value(page, capsys):
    """An option without a command is one of some command, or of a benchmark; `train --shard-model` is one of train."""
    parsers = {command: lenient_parser(command) for command in COMMANDS}
    benchmarks = "\n".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    others = set(re.findall(r'"(--[\w-]+)"', benchmarks))
    wrong = {}
    for span in spans(page):
        words = shlex.split(span)
        asked = [words[0]] if words and words[0] in COMMANDS else list(COMMANDS)
        arguments = words[1:] if words and words[0] in COMMANDS else words
        if not arguments or not re.match(r"--[a-z]", arguments[0]) or arguments[0] in others:
            continue
        said = [mistake(parsers[command], filled(parsers[command], arguments), capsys) for command in asked]
        wrong |= {span: said} if all(said) else {}
    assert wrong == {}


def test_the_table_of_commands_is_complete(capsys):
    calls = [called(named(row[0])[0]) for row in table("README.md", "command", "does")]
    assert sorted(command for command, _ in calls) == sorted(COMMANDS)
    for command, arguments in calls:
        assert mistake(own_parser(command), filled(own_parser(command), arguments), capsys) == "", command


def test_make_has_the_targets_that_are_named():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXT.items():
        in_text = [span.split()[1] for span in spans(page) if re.fullmatch(r"make [a-z-]+", span)]
        in_blocks = re.findall(r"^make ([a-z-]+)", "\n".join(blocks(page, "")), re.MULTILINE)
        assert {*in_text, *in_blocks} <= targets, (page, len(text))


def test_every_link_and_picture_is_there():
    lost = []
    for page, text in TEXT.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = (ROOT / page).parent / name if name else ROOT / page
            if not file.exists():
                lost.append((page, target))
            elif anchor:
                heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                lost += [] if anchor in anchors else [(page, target)]
    assert lost == []


def test_every_file_of_the_repository_that_is_named_is_there():
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"data", "workspace"}
    named_here = {
        (page, span)
        for page in TEXT
        for span in spans(page)
        if re.fullmatch(r"[\w./-]+", span) and "/" in span and span.split("/")[0] in tops
    }
    gone = [(page, span) for page, span in sorted(named_here) if not (ROOT / span).exists()]
    assert gone == []


def test_every_name_of_the_package_that_is_named_can_be_imported():
    gone = []
    for page in TEXT:
        python = re.findall(r"^from ([\w.]+) import (.+)$", "\n".join(blocks(page, "python")), re.MULTILINE)
        names = [f"{module}.{name.strip()}" for module, listed in python for name in listed.split(",")]
        names += [span for span in spans(page) if re.fullmatch(r"(fourdnex|orchestration|benchmarks)(\.\w+)+", span)]
        gone += [(page, name) for name in names if not resolves(name)]
    assert gone == []


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_python_block_compiles():
    for page in TEXT:
        for number, body in enumerate(blocks(page, "python")):
            compile(body, f"{page}, block {number}", "exec")


# Variables between our own processes, and of tests.
_INTERNAL = {"FOURDNEX_DAGSTER_RUN", "FOURDNEX_ROOT"}
_CODE = [path for folder in ("fourdnex", "orchestration", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_our_environment_variables_are_those_that_the_code_reads():
    in_code = set(re.findall(r'"(FOURDNEX_[A-Z_]+)"', "\n".join(path.read_text() for path in _CODE))) - _INTERNAL
    in_docs = set(re.findall(r"\bFOURDNEX_[A-Z_]+\b", "\n".join(TEXT.values())))
    assert in_docs == in_code
    assert {row[0] for row in table("docs/graph.md", "variable", "default")} == in_code | {"MLFLOW_TRACKING_URI"}


def test_environment_variables_of_libraries_are_set_or_read_by_somebody():
    """Each stands in our code or configuration, or in the sources of the library that reads it."""
    ours = "\n".join(path.read_text() for path in [*_CODE, ROOT / "Makefile", ROOT / "mlflow" / "server.env.example"])
    libraries = {"MLFLOW_TRACKING_": "mlflow", "HF_": "huggingface_hub", "DVC_": "dvc"}
    for name in set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", " ".join(s for p in TEXT for s in spans(p)))):
        library = next((package for prefix, package in libraries.items() if name.startswith(prefix)), None)
        if name in ours or library is None:
            continue
        (folder,) = importlib.import_module(library).__path__
        assert any(name in path.read_text(errors="replace") for path in Path(folder).rglob("*.py")), name


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
        starts.append(training_run.options_of_every_run().get("xyz_start", Recipe().xyz_start))
    flat = " ".join(TEXT["docs/graph.md"].split())
    with_network, without = re.findall(r"`xyz_start` is `(\w+)` where a depth network .*? Else it is `(\w+)`", flat)[0]
    assert starts == [with_network, without]


def test_the_graph_page_names_the_options_that_latents_are_encoded_by():
    flat = " ".join(TEXT["docs/graph.md"].split())
    (told,) = re.findall(r"other than those that latents are encoded by \((.*?)\)", flat)
    assert set(named(told)) == set(ENCODED_CHOICES)
    encode = {action.dest for action in own_parser("encode")._actions}
    assert set(ENCODED_CHOICES) <= encode


def test_the_page_of_the_recipe_tells_the_defaults():
    ours, public = Recipe().choices(), PUBLIC_RECIPE.choices()
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

    from fourdnex.model.names import FusionName

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


def test_extras_and_test_markers_that_are_named_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = "\n".join(TEXT.values())
    assert set(re.findall(r"fourdnex\[([\w,]+)\]", text)) <= set(project["project"]["optional-dependencies"])
    markers = {marker.split(":")[0] for marker in project["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"pytest -m (\w+)", text)) <= markers


def test_the_driver_of_postgresql_is_the_one_that_sqlalchemy_takes():
    from sqlalchemy import make_url

    (uri,) = re.findall(r"postgresql\S*", (ROOT / "mlflow" / "server.env.example").read_text())
    assert f"'{make_url(uri).get_dialect().driver}[binary]'" in TEXT["mlflow/README.md"]


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
            f"`my-scenes/{SET_ASIDE_FILE}`",
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


def test_every_switch_of_telemetry_is_named():
    assert [name for name in SWITCHES if f"`{name}`" not in TEXT["README.md"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_call_of_a_benchmark_has_options_of_that_benchmark(module):
    asked = {
        flag
        for page in TEXT
        for text in [*spans(page), *shell_lines(page)]
        if re.search(rf"benchmarks\.{module}\b", text)
        for flag in re.findall(r"--[a-z][\w-]*", text.split(f"benchmarks.{module}", 1)[1])
    }
    if not asked:
        pytest.skip("no options are shown")
    said = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [flag for flag in asked if flag not in said.stdout] == []


@pytest.fixture(scope="session")
def orchestration_definitions() -> dg.Definitions:
    from orchestration.definitions import defs

    return defs()


@pytest.fixture(scope="session")
def orchestration_graph(orchestration_definitions):
    return orchestration_definitions.resolve_asset_graph()
