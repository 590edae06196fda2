"""The command line: help, errors in one line, JSON results, and a scene that passes through the commands."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from fourdnex.cli import build_parser, main
from fourdnex.commands import COMMANDS
from fourdnex.commands.completion import subparsers
from fourdnex.commands.model import _error_table
from fourdnex.commands.scenes import _resolve_adapter
from fourdnex.datasets.worlds import render_world
from fourdnex.evaluation.benchmark import METRICS
from fourdnex.identity import collect
from fourdnex.io.files import write_json
from fourdnex.scene import Scene4D


@pytest.fixture
def scene(tmp_path):
    clip = render_world(3, num_frames=3, height=32, width=48)
    scene = Scene4D(rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world)
    scene.save(tmp_path / "scene")
    return tmp_path / "scene"


def test_the_commands_of_the_public_surface_exist():
    data, model = (
        "worlds videos ingest annotate curate encode",
        "pretrain pretrain-depth train evaluate ablate import-adapter",
    )
    members = {f"dataset {name}" for name in "check info card merge add migrate".split()}
    results = "generate view render export lineage promote rollback doctor plan completion"
    assert set(COMMANDS) == set(f"{data} {model} {results}".split()) | members


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"example:\n  fourdnex {name}" in text
    used = set(re.findall(r"(--[a-z-]+)", COMMANDS[name].example))
    assert used <= set(re.findall(r"(--[a-z-]+)", text))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_a_help_text(name):
    parser = subparsers(build_parser([name.split()[0]]))[name]
    assert [action.dest for action in parser._actions if not (action.help or "").strip()] == []


def test_help_imports_nothing_heavy():
    """`--help` responds at once: neither torch nor any other large package is imported."""
    code = (
        "import sys; from fourdnex.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'diffusers', 'mlflow', 'PIL', 'dagster'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_python_dash_m():
    answer = subprocess.run(
        [sys.executable, "-m", "fourdnex", "--version"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0 and answer.stdout.startswith("fourdnex ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--latents", "none", "--output", "out", "--no-track"], "latents: no shards in none"),
        (["train", "--latents", "none", "--output", "out", "--steps", "0"], "steps: expected at least 1, got 0"),
        (["annotate", "--data", "none"], "none: there is no data set here"),
        (["curate", "--annotated", "none"], "none: expected annotated shards; run `fourdnex annotate` first"),
        (["encode", "--annotated", "none"], "none: expected annotated shards"),
        (["export", "none", "out"], "no such file"),
        (["view", "none"], "no such file"),
        (["worlds", "out", "--num-worlds", "0"], "num_worlds: expected at least 1, got 0"),
        (
            ["generate", "none", "out", "--adapter", "nowhere"],
            "adapter: expected an adapter folder, 'champion' or 'none', got nowhere",
        ),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert message in error
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["export", str(tmp_path / "none"), str(tmp_path / "out"), "--debug"])


def test_a_scene_is_exported_and_rendered(scene, tmp_path, capsys):
    assert main(["export", str(scene), str(tmp_path / "ply"), "--to", "ply"]) == 0
    assert len(list((tmp_path / "ply").glob("*.ply"))) == 3
    assert main(["export", str(scene), str(tmp_path / "scene.rrd"), "--to", "rerun"]) == 0
    assert (tmp_path / "scene.rrd").stat().st_size > 0
    assert main(["render", str(scene), str(tmp_path / "a.mkv"), "--num-views", "4", "--zoom", "1"]) == 0
    assert (tmp_path / "a.mkv").stat().st_size > 0
    assert main(["render", str(scene), str(tmp_path / "a.avi")]) == 2
    assert "expected a file name ending in .mkv" in capsys.readouterr().err


def test_paths_may_contain_colons(scene, tmp_path, monkeypatch):
    """FFmpeg reads `cat:v2/rgb.mkv` as a URL of the protocol `cat`."""
    monkeypatch.chdir(tmp_path)
    scene.rename("cat:v2")
    assert main(["export", "cat:v2", "out:ply", "--to", "ply"]) == 0
    assert main(["render", "cat:v2", "take:1.mp4", "--num-views", "2", "--zoom", "1"]) == 0
    assert Scene4D.load("cat:v2", frame=1).num_frames == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat:v2", "out:ply", "take:1.mask.mkv", "take:1.mp4"]


def test_generate_one_image_and_a_folder(tmp_path, random_base, capsys):
    from PIL import Image

    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_text("not an image")
    common = ["--model", str(random_base), "--adapter", "none", "--num-inference-steps", "1"]
    assert main(["generate", str(folder / "a.png"), str(tmp_path / "one"), *common]) == 0
    assert main(["generate", str(folder), str(tmp_path / "all"), *common]) == 0
    output = capsys.readouterr()
    assert "1 done, 0 cached, 1 failed" in output.out
    assert "failed: b.png: not an image" in output.err
    one, same = Scene4D.load(tmp_path / "one"), Scene4D.load(tmp_path / "all" / "a")
    assert np.array_equal(one.rgb, same.rgb)
    assert same.provenance["git_commit"]
    (folder / "a.png").unlink()
    assert main(["generate", str(folder), str(tmp_path / "bad"), *common]) == 1


def test_scenes_record_the_data_and_the_run_of_their_adapter(tmp_path):
    from fourdnex.model.adapter_files import AdapterInfo

    adapter, provenance = _resolve_adapter("none")
    assert adapter is None and provenance["data_md5"] is None and provenance["git_commit"], (
        "the base alone has no training data"
    )
    trained = {"data_md5": "0" * 32 + ".dir", "mlflow_run": "1" * 32, "git_commit": "2" * 40, "dagster_run": "3"}
    for identity in (trained, {}):
        info = AdapterInfo(rank=2, alpha=2.0, identity=identity)
        write_json(tmp_path / "adapter.json", info.to_json())
        adapter, provenance = _resolve_adapter(str(tmp_path))
        assert adapter.folder == tmp_path
        recorded = (identity.get("data_md5"), identity.get("mlflow_run"))
        assert (provenance["data_md5"], provenance["mlflow_run"]) == recorded
        assert provenance["git_commit"] == collect()["git_commit"] and provenance["dagster_run"] != "3"


def test_the_error_for_a_missing_champion_names_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOURDNEX_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["generate", "none", str(tmp_path / "out")]) == 2
    assert f"no champion in sqlite:///{tmp_path / 'workspace'}/mlflow/mlflow.db" in capsys.readouterr().err


def test_undefined_errors_are_a_dash():
    known = dict.fromkeys(METRICS, 0.25)
    lines = _error_table({"adapter": known | {"length_ratio": None}, "baselines": {"base": known}}).splitlines()
    assert lines[1].split() == ["adapter", *("-" if name == "length_ratio" else "0.2500" for name in METRICS)]
    assert lines[2].split() == ["base", *["0.2500"] * len(METRICS)]


def test_worlds_can_be_annotated(tmp_path, capsys):
    assert main(["worlds", str(tmp_path / "data"), "--num-worlds", "2"]) == 0
    assert "2 clips" in capsys.readouterr().out
    arguments = ["annotate", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "annotated")]
    assert main(arguments) == 0
    assert "worlds-0000: 2 done, 0 cached, 0 failed of 2" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "worlds-0000: 0 done, 2 cached" in capsys.readouterr().out


def json_of(arguments, capsys, status=0):
    """The one JSON object that a command prints on stdout."""
    assert main([*arguments, "--json"]) == status
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    return json.loads(output.out), output.err


def test_json_is_the_only_output_on_stdout(scene, tmp_path, capsys):
    data, text = json_of(["export", str(scene), str(tmp_path / "ply")], capsys)
    assert data == {"scene": str(scene), "output": str(tmp_path / "ply"), "format": "ply"}
    assert str(tmp_path / "ply") in text
    data, text = json_of(["render", str(scene), str(tmp_path / "a.mkv"), "--num-views", "2", "--zoom", "1"], capsys)
    assert data["views"] == 2 and data["mask"] == str(tmp_path / "a.mask.mkv") and "2 views" in text


def test_json_of_lineage_doctor_and_plan(scene, capsys):
    data, _ = json_of(["lineage", str(scene)], capsys)
    assert {"kind", "name", "found", "location"} <= set(data["lineage"][0])
    data, _ = json_of(["plan", "--model", "tiny", "--gpus", "1x24GB"], capsys)
    assert data["training"]["fits"] and data["generation"]["options"] == []
    assert main(["doctor", "--json"]) in (0, 1)
    assert {"check", "ok", "detail"} == set(json.loads(capsys.readouterr().out)["checks"][0])


def test_json_of_a_data_set(tmp_path, capsys):
    data, _ = json_of(["worlds", str(tmp_path / "data"), "--num-worlds", "2"], capsys)
    assert data == {"output": str(tmp_path / "data"), "clips": 2}
    arguments = ["annotate", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "annotated")]
    data, text = json_of(arguments, capsys)
    (shard,) = data["shards"]
    assert (shard["shard"], shard["done"], shard["failed"]) == ("worlds-0000", 2, [])
    assert "2 done, 0 cached, 0 failed of 2" in text
    places = ["--scores", str(tmp_path / "scores"), "--output", str(tmp_path / "curated.parquet")]
    data, _ = json_of(["curate", "--annotated", str(tmp_path / "annotated"), *places], capsys)
    assert data["accepted"] + data["rejected"] == 2
    places = ["--curated", str(tmp_path / "curated.parquet"), "--output", str(tmp_path / "latents")]
    data, _ = json_of(["encode", "--annotated", str(tmp_path / "annotated"), *places], capsys)
    assert len(data["center"]) == 3 and data["shards"][0]["requested"] == data["clips"]


def test_json_of_generation(tmp_path, random_base, capsys):
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((64, 96, 3), 128, np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("not an image")
    common = ["--model", str(random_base), "--adapter", "none", "--num-inference-steps", "1"]
    data, _ = json_of(["generate", str(tmp_path / "in"), str(tmp_path / "out"), *common], capsys)
    assert (data["requested"], data["done"], data["cached"]) == (2, 1, 0)
    assert data["failed"][0]["name"] == "b.png"
    data, _ = json_of(["generate", str(tmp_path / "in" / "a.png"), str(tmp_path / "one"), *common], capsys)
    assert data["done"] == 1


def test_json_of_an_error(tmp_path, capsys):
    data, text = json_of(["export", str(tmp_path / "none"), str(tmp_path / "out")], capsys, status=2)
    assert set(data) == {"error"} and text == f"error: {data['error']}\n"


@pytest.mark.parametrize(
    "name", "generate annotate curate encode train evaluate export render lineage plan doctor videos worlds".split()
)
def test_commands_that_print_results_take_json(name):
    assert "--json" in subparsers(build_parser([name.split()[0]]))[name]._option_string_actions
