"""Data sets: manifests, shards of source clips, annotated shards, readers and procedural worlds."""
