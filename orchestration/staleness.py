"""What of the graph is missing, stale or failed its blocking checks: what there is to do."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from orchestration.history import latest_checks


class Outstanding:
    """A look at the instance as it is now; take a new one after every run."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self._instance = instance
        self._graph = defs.resolve_asset_graph()
        # Named for tests by Dagster, but just a cache around the instance.
        self._resolver = CachingStaleStatusResolver(instance, self._graph, LoadingContextForTest(instance))

    def partitions(self, asset: str, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that are missing or older than what they depend on."""
        key = dg.AssetKey(asset)
        return [name for name in keys if self._resolver.get_status(key, name) != StaleStatus.FRESH]

    def is_due(self, asset: str) -> bool:
        """Is an asset without partitions missing, older than what it depends on, or not past its checks?"""
        key = dg.AssetKey(asset)
        checks = tuple(f"{asset}:{check.name}" for check in self._graph.asset_check_keys if check.asset_key == key)
        if self._resolver.get_status(key) != StaleStatus.FRESH:
            return True
        return not all(latest_checks(self._instance, checks).values())
