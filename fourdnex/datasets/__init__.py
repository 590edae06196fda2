"""Data sets: manifest and shards on disk, procedural worlds, real clips, annotated shards."""
