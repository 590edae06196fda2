"""Project conventions: what the wheel contains, which packages import dagster and mlflow, and pinned requirements."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import fourdnex
from fourdnex.extras import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement)[0].lower().replace("_", "-")


def test_import_mlflow_finds_the_package():
    """The folder mlflow/ at the root holds configuration; a Python file in it would hide the real package."""
    import mlflow

    found = Path(mlflow.__file__).resolve()
    assert found.is_relative_to(Path(str(metadata.distribution("mlflow").locate_file(""))).resolve())
    assert not found.is_relative_to(ROOT / "mlflow")
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_the_wheel_holds_the_library_and_the_shipped_models():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["fourdnex", "pretrained"]
    assert wheel["sources"] == {"pretrained": "fourdnex/pretrained_models"}
    assert (ROOT / "fourdnex" / "py.typed").is_file()


def test_every_folder_with_modules_is_a_package():
    for name in ("fourdnex", "orchestration"):
        folders = {path.parent for path in (ROOT / name).rglob("*.py")}
        assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_installed_version_is_that_of_the_package():
    assert PROJECT["dynamic"] == ["version"]
    assert metadata.version("fourdnex") == fourdnex.__version__


def test_fourdnex_never_imports_dagster_and_only_tracking_imports_mlflow():
    for path in (ROOT / "fourdnex").rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        imports = [line for line in lines if line.startswith(("import ", "from "))]
        assert not [line for line in imports if line.split()[1].split(".")[0] == "dagster"], path
        if ROOT / "fourdnex" / "tracking" not in path.parents:
            assert not [line for line in imports if line.split()[1].split(".")[0] == "mlflow"], path


def test_every_requirement_has_its_tested_version_in_the_constraints():
    extras = PROJECT["optional-dependencies"].values()
    required = {requirement_name(item) for items in (PROJECT["dependencies"], *extras) for item in items}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert required - {"fourdnex"} <= tested


def test_every_optional_module_names_an_extra_that_installs_it():
    extras = PROJECT["optional-dependencies"]
    base = {requirement_name(item) for item in PROJECT["dependencies"]}
    for module, (distribution, extra) in PACKAGES.items():
        assert distribution in {requirement_name(item) for item in extras[extra]}, module
        assert distribution not in base, module


def test_the_library_imports_no_package_outside_its_requirements():
    """A module that is neither required nor a known extra would fail in a wheel without a helpful message."""
    distributions = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
    known = {requirement_name(item) for item in PROJECT["dependencies"]} | set(PACKAGES) | {"fourdnex"}
    unknown = set()
    for path in (ROOT / "fourdnex").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
            unknown |= {
                f"{path.relative_to(ROOT)}: {name}" for name in modules if distributions.get(name, name) not in known
            }
    assert unknown == set()
