"""What a pass over one shard did."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """Counts of one pass over one shard: `requested = done + cached + len(failed)`.

    Raises:
        ValueError: the counts do not add up, so an item was lost on the way.
    """

    shard: str
    requested: int
    done: int
    """Items finished in this pass."""
    cached: int
    """Items found finished, and left as they were."""
    failed: tuple[tuple[str, str], ...] = ()
    """(name, reason) of every item that could not be finished, whether tried in this pass or before."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.requested != self.done + self.cached + len(self.failed):
            raise ValueError(
                f"{self.shard}: expected requested = done + cached + set aside, got {self.requested} requested, {self.done} done, "
                f"{self.cached} cached, {len(self.failed)} set aside"
            )
