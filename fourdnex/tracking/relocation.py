"""Updates the absolute paths in an MLflow database after its workspace was moved or copied.

The paths are rewritten when the database is first opened at its new location. A copied workspace then reads and writes
only its own files, even while the original still exists.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def relocate(database: Path) -> int:
    """Rewrite the locations in an MLflow database to its current folder.

    Former folders are derived from the experiments, whose artifacts are in `artifacts/{name}` next to the database.
    All rows change in one transaction. A database without MLflow's tables is not changed.

    Returns:
        Number of changed locations.

    Raises:
        sqlite3.Error: if the database cannot be read or written.
    """
    current = database.parent.as_uri()
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return 0
        experiments = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        former = {folder for name, location in experiments if (folder := _store_folder(name, location))}
        changed = 0
        for folder in former - {current}:
            for table, column in _COLUMNS:
                if table in tables:
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (current, len(folder) + 1, len(folder) + 1, f"{folder}/"),
                    ).rowcount
    return changed


def _store_folder(name: str, location: str) -> str | None:
    """URI of the store's folder, derived from an experiment's artifact location; None if it has another form."""
    suffix = Path("/artifacts", name).as_uri().removeprefix("file://")
    if location.startswith("file://") and location.endswith(suffix):
        return location[: -len(suffix)]
    return None
