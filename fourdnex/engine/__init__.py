"""Work on many items, such as shards: one after the other, in local processes, or on a Ray cluster."""

from fourdnex.engine.attempts import Failure
from fourdnex.engine.mapping import Engine, check_engine, map_items

__all__ = ["Engine", "Failure", "check_engine", "map_items"]
