"""Everything used of Dagster's private modules, `dagster._core`: written for Dagster 1.13.

Dagster may change these in any minor version. For another one, run `tests/orchestration`, then set `TESTED_VERSION`.

- Tag names: runs and events carry them, but Dagster exports no constants for them.
- `version_tags`: a partition that is recorded before its asset ends must carry the version tags that Dagster writes at
  the end. Without them Dagster cannot detect that the partition is stale once its inputs change.
- `stale_status_resolver`: the staleness that the UI shows, for code that materializes only what is stale.
"""

import warnings
from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.data_version import (
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
    CachingStaleStatusResolver,
    StaleStatus,
    compute_logical_data_version,
)
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
)

TESTED_VERSION = "1.13"
"""Minor version of Dagster that this module was written for and tested with."""

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "DATA_VERSION_TAG",
    "INPUT_DATA_VERSION_TAG_PREFIX",
    "INPUT_EVENT_POINTER_TAG_PREFIX",
    "PARTITION_NAME_TAG",
    "RUN_KEY_TAG",
    "TESTED_VERSION",
    "CachingStaleStatusResolver",
    "StaleStatus",
    "stale_status_resolver",
    "version_tags",
    "warn_if_untested",
]


def warn_if_untested(version: str = dg.__version__) -> None:
    """Warn if the installed Dagster is of another minor version than the tested one."""
    if version.split(".")[:2] != TESTED_VERSION.split("."):
        warnings.warn(
            f"dagster {version}: orchestration is tested with {TESTED_VERSION}; if it fails, "
            f"pip install 'dagster=={TESTED_VERSION}.*'",
            stacklevel=2,
        )


def version_tags(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """The data version and provenance tags that Dagster writes when the asset ends, for an event recorded before."""
    step = context.get_step_execution_context()
    code_version = _get_code_version(context.asset_key, step)
    inputs = _get_input_provenance_data(context.asset_key, step)
    version = compute_logical_data_version(code_version, {key: read["data_version"] for key, read in inputs.items()})
    return _build_data_version_tags(version, code_version, inputs, False)


def stale_status_resolver(instance: dg.DagsterInstance, defs: dg.Definitions) -> CachingStaleStatusResolver:
    """Resolves the stale status of assets and partitions, as the instance is now."""
    # Dagster's name says that it is for tests, but it is only a cache around the instance.
    return CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
