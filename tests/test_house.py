"""The house: what is packaged, and that nothing in it stands in for a package of the same name."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_import_mlflow_finds_the_package():
    """The folder mlflow/ at the root holds configuration; a Python file in it would hide the real package."""
    import mlflow

    found = Path(mlflow.__file__).resolve()
    assert found.is_relative_to(Path(str(metadata.distribution("mlflow").locate_file(""))).resolve())
    assert not found.is_relative_to(ROOT / "mlflow")
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_only_our_two_packages_are_packaged():
    setuptools = pytest.importorskip("setuptools")
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    found = setuptools.find_packages(str(ROOT), include=find["include"])
    assert {name.split(".")[0] for name in found} == {"fourdnex", "orchestration"}
    folders = {path.parent for name in ("fourdnex", "orchestration") for path in (ROOT / name).rglob("*.py")}
    assert {str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders} == set(found)


def test_the_library_knows_nothing_of_dagster_and_mlflow_in_one_package_only():
    for path in (ROOT / "fourdnex").rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        imports = [line for line in lines if line.startswith(("import ", "from "))]
        assert not [line for line in imports if line.split()[1].split(".")[0] == "dagster"], path
        if ROOT / "fourdnex" / "tracking" not in path.parents:
            assert not [line for line in imports if line.split()[1].split(".")[0] == "mlflow"], path


def test_every_requirement_has_its_tested_version_in_the_constraints():
    import re

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [item for extra in project["optional-dependencies"].values() for item in extra]
    names = {re.split(r"[\[<>=~!; ]", item)[0].lower().replace("_", "-") for item in wanted}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= tested
