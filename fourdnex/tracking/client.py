"""Where the store of experiments and models is, and MLflow's client of it."""

import fcntl
import http.client
import logging
import os
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fourdnex.tracking.relocation import relocate
from fourdnex.workspace import Workspace

_VARIABLE = "MLFLOW_TRACKING_URI"
_PATIENCE = 5.0  # seconds that a server gets for its first answer
_LOG = logging.getLogger(__name__)

# MLflow reads it when it is imported, which no module does before this one.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


class TrackingError(OSError):
    """The store cannot be used: no room, no permission, no answer; the message names it."""


def tracking_uri(workspace: Workspace | None = None) -> str:
    """MLFLOW_TRACKING_URI where it is set, else the SQLite file in the workspace.

    That one's folder is made; a store that was moved or copied with its workspace is brought to its present place.

    Raises:
        TrackingError: the database cannot be read or written.
    """
    uri = store(workspace)
    if os.environ.get(_VARIABLE):
        return uri
    store_folder(workspace).mkdir(parents=True, exist_ok=True)
    if has_store(workspace):
        try:
            with store_alone(workspace):
                changed = relocate(_database(workspace))
        except sqlite3.Error as error:
            raise TrackingError(f"MLflow, {uri}: {error}") from error
        if changed:
            _LOG.info("%s: the workspace was moved or copied: its store now points to the files in it", uri)
    return uri


def store(workspace: Workspace | None = None) -> str:
    """As `tracking_uri`, but nothing is made: the store may not be there yet."""
    return os.environ.get(_VARIABLE) or _sqlite_uri(_database(workspace))


def has_store(workspace: Workspace | None) -> bool:
    """Whether there is a store to ask: to ask one that is not there would make it."""
    return bool(os.environ.get(_VARIABLE)) or _database(workspace).is_file()


def store_folder(workspace: Workspace | None) -> Path:
    """The folder in the workspace that holds the store and its files."""
    return _database(workspace).parent


def _sqlite_uri(database: Path) -> str:
    """A URL of SQLAlchemy 2.1: the two signs that it gives a meaning to are quoted.

    MLflow would make a folder of the quoted name as well, unless the driver stands in the URL.
    """
    quoted = str(database).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{database}" if quoted == str(database) else f"sqlite+pysqlite:///{quoted}"


def _database(workspace: Workspace | None) -> Path:
    return (workspace or Workspace.default()).mlflow_database.resolve()


def open_client(workspace: Workspace | None) -> Any:
    """MLflow's client of the store, which is made where it is not there yet.

    Raises:
        TrackingError: the store cannot be used, or the server does not answer.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    if uri.startswith(("http://", "https://")):
        _greet(uri)
    try:
        with store_alone(workspace):
            client = MlflowClient(uri)  # opens the store, or makes its tables
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise TrackingError(f"MLflow, {without_password(uri)}: {str(error).splitlines()[0]}") from error
    return client


def without_password(uri: str) -> str:
    """A store's address without the name and password that may stand in it."""
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri


@cache  # a server that answered once is left to MLflow's own retries; no answer is not kept
def _greet(uri: str) -> None:
    """One short question to a server: MLflow's client asks one that is not there for minutes.

    Raises:
        TrackingError: it does not answer.
    """
    unchecked = ssl.create_default_context()  # nothing secret is sent, and MLflow checks certificates as it is told to
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    address = without_password(uri)
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_PATIENCE, context=unchecked):
            pass
    except urllib.error.HTTPError:
        pass  # whatever it says, it is there
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TrackingError(
            f"MLflow, {address}: no answer ({reason}). Start the server, correct {_VARIABLE}, or unset it to use the "
            "store in the workspace"
        ) from error


@contextmanager
def store_alone(workspace: Workspace | None) -> Iterator[None]:
    """A block that one process at a time is in: two that make the same tables or experiment would fail each other.

    It holds for the workspace's own store. What MLFLOW_TRACKING_URI names is a server's affair.
    """
    if os.environ.get(_VARIABLE):
        yield
        return
    folder = os.open(store_folder(workspace), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # and with it the lock


@contextmanager
def none_if_missing() -> Iterator[None]:
    """A block that ends quietly where the store has no such run, model or alias; every other error is raised."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Let MLflow's functions that know no client use this store, and leave no trace of it.

    MLflow writes the store into the environment as well, where it would look like a user's wish ever after.
    """
    import mlflow

    given = os.environ.get(_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if given is not None:
            os.environ[_VARIABLE] = given
