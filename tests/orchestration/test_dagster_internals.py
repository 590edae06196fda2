"""Private names of Dagster: they exist, in the minor version that the module was written for."""

import re
import warnings
from importlib import metadata

import pytest

from orchestration import dagster_internals
from tests.docs.pages import ROOT


def test_every_name_exists():
    assert [name for name in dagster_internals.__all__ if not hasattr(dagster_internals, name)] == []


def test_no_other_module_imports_private_modules():
    users = [path for path in (ROOT / "orchestration").rglob("*.py") if "dagster._core" in path.read_text()]
    assert [path.name for path in users] == ["dagster_internals.py"]


def test_the_tested_version_is_installed_and_pinned():
    tested = dagster_internals.TESTED_VERSION
    assert metadata.version("dagster").startswith(f"{tested}.")
    (pinned,) = re.findall(r"^dagster==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned.startswith(f"{tested}.")
    assert f"Dagster {tested}." in dagster_internals.__doc__


def test_another_minor_version_gives_a_warning():
    with pytest.warns(UserWarning, match=r"dagster 1\.14\.0: orchestration is tested with 1\.13"):
        dagster_internals.warn_if_untested("1.14.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dagster_internals.warn_if_untested("1.13.99")
