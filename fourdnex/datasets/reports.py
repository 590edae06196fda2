"""What a pass over one shard did."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """Counts of one pass over one shard: `asked = done + skipped + len(failed)`.

    Raises:
        ValueError: the counts do not add up, so an item was lost on the way.
    """

    shard: str
    asked: int
    done: int
    """Items finished in this pass."""
    skipped: int
    """Items found finished, and left as they were."""
    failed: tuple[tuple[str, str], ...] = ()
    """(name, reason) of every item that could not be finished, whether tried in this pass or before."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.asked != self.done + self.skipped + len(self.failed):
            raise ValueError(
                f"{self.shard}: expected asked = done + skipped + set aside, got {self.asked} asked, {self.done} done, "
                f"{self.skipped} skipped, {len(self.failed)} set aside"
            )
