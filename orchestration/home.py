"""The Dagster instance of a workspace."""

import os
import shutil
from pathlib import Path

import dagster as dg

from fourdnex.io.files import atomic_path
from fourdnex.workspace import Workspace

_TEMPLATE = Path(__file__).with_name("dagster.yaml")


def make_home(workspace: Workspace) -> Path:
    """Create DAGSTER_HOME of the workspace, with the settings of this project unless it has its own; returns it."""
    home = workspace.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        with atomic_path(settings) as temporary:
            shutil.copyfile(_TEMPLATE, temporary)
    return home


def open_instance(workspace: Workspace) -> dg.DagsterInstance:
    """The persistent instance of the workspace. Sets DAGSTER_HOME to it, for child processes."""
    home = make_home(workspace)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.from_config(str(home))
