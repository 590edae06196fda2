"""Result of processing one shard."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """Counts of processing one shard: `requested = done + cached + len(failed)`.

    Raises:
        ValueError: the counts do not add up: an item is unaccounted for.
    """

    shard: str
    requested: int
    done: int
    """Items completed in this run."""
    cached: int
    """Items completed by an earlier run."""
    failed: tuple[tuple[str, str], ...] = ()
    """(name, reason) of every failed item, of this run or an earlier one."""
    seconds: float = 0.0
    """Duration of this run."""

    def __post_init__(self) -> None:
        if self.requested != self.done + self.cached + len(self.failed):
            raise ValueError(
                f"{self.shard}: expected requested = done + cached + failed, got {self.requested} requested, "
                f"{self.done} done, {self.cached} cached, {len(self.failed)} failed"
            )
