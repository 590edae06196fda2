"""What has to be materialized: assets that are missing, stale, or failed their blocking checks."""

from collections.abc import Sequence

import dagster as dg

from orchestration.dagster_internals import StaleStatus, stale_status_resolver
from orchestration.history import latest_checks


class Outstanding:
    """Status of the assets at the time of construction; construct a new one after each run."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self._instance = instance
        self._graph = defs.resolve_asset_graph()
        self._resolver = stale_status_resolver(instance, defs)

    def partitions(self, asset: str, keys: Sequence[str]) -> list[str]:
        """The partitions among `keys` that are missing or older than their inputs."""
        key = dg.AssetKey(asset)
        return [name for name in keys if self._resolver.get_status(key, name) != StaleStatus.FRESH]

    def is_due(self, asset: str) -> bool:
        """Whether an unpartitioned asset is missing, is older than its inputs, or has not passed its checks."""
        key = dg.AssetKey(asset)
        checks = tuple(f"{asset}:{check.name}" for check in self._graph.asset_check_keys if check.asset_key == key)
        if self._resolver.get_status(key) != StaleStatus.FRESH:
            return True
        return not all(latest_checks(self._instance, checks).values())
