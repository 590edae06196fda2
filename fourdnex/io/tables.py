"""Reading Parquet tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] = (),
    only: Sequence[str] | None = None,
    where: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: the file.
        columns: that the table must have; it may have others.
        only: read these columns and no others; the table must have them.
        where: column -> value: read the rows with these values, and only the row groups that may hold them.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not readable as Parquet, or lacks a column; the message names it.
    """
    import pandas as pd

    filters = None if where is None else [(column, "==", value) for column, value in where.items()]
    try:
        table = pd.read_parquet(path, columns=None if only is None else list(only), filters=filters)
    except FileNotFoundError:
        raise
    except Exception as error:  # Arrow raises ArrowException and OSError, pandas others for damaged metadata
        raise ValueError(f"{path}: cannot be read as Parquet: {str(error) or type(error).__name__}") from error
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{path}: missing columns: {', '.join(missing)}")
    return table
