"""One pass over a collection: which scenes are there, and generating the others batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdnex.generation.collection_records import CollectionImage, read_failed, write_failed
from fourdnex.generation.scene_folders import in_the_way, is_finished, write_scene_folder
from fourdnex.generation.scene_locks import SceneLocks
from fourdnex.progress import progress_bar
from fourdnex.scene import Scene4D

if TYPE_CHECKING:
    from fourdnex.generation.scene_maker import Failure

MakeBatch = Callable[[list[CollectionImage]], "list[Scene4D | Failure]"]
"""Generates the scenes of one batch, in its order."""
_LOG = logging.getLogger(__name__)


class CollectionPass:
    """One pass over a collection.

    Attributes:
        done: number of scenes generated in this pass.
        cached: number of scenes that were there, with the same provenance.
        failed: entry of each image that failed, by file.
    """

    def __init__(self, out: Path, locks: SceneLocks, failed: dict[str, dict[str, Any]]) -> None:
        self._out, self._locks = out, locks
        self.failed = failed
        self.done = self.cached = 0

    def is_settled(self, image: CollectionImage, recorded: dict[str, dict[str, Any]]) -> bool:
        """Whether the scene of an image is there, or the image failed; `recorded` are the entries of `failed.json`."""
        before = recorded.get(image.file)
        if is_finished(self._out / image.scene, image.made_with):
            self.cached += 1
        elif before is not None and before.get("made_with") == image.made_with:
            self.failed[image.file] = before
        elif (reason := in_the_way(self._out / image.scene)) is not None:
            self.failed[image.file] = {"file": image.file, "reason": reason}
            _LOG.warning("%s failed: %s", image.file, reason)
        else:
            return False
        return True

    def make(self, images: list[CollectionImage], load: Callable[[], MakeBatch], batch_size: int) -> None:
        """Generate the scenes of `images`, except those that another process generates meanwhile.

        Returns when all scenes are there. `load` loads the model; it is called when the first batch needs it.
        """
        make_batch, todo = None, list(images)
        with progress_bar(len(images), desc="generate", unit="image") as advance:
            for batch in self._batches(todo, batch_size):
                make_batch = make_batch or load()
                for image, result in zip(batch, make_batch(batch), strict=True):
                    number = len(images) - len(todo) - len(batch) + batch.index(image) + 1
                    self._store(image, result, f"{number} of {len(images)}")
                    advance(1)

    def _batches(self, todo: list[CollectionImage], batch_size: int) -> Iterator[list[CollectionImage]]:
        """Batches of images that this process has locked and that are not settled; `todo` shrinks."""
        while todo:
            batch: list[CollectionImage] = []
            recorded = read_failed(self._out)
            for image in list(todo):
                if len(batch) == batch_size:
                    break
                if not self._locks.acquire(image.scene):
                    continue
                todo.remove(image)
                if self.is_settled(image, recorded):  # by another process in the meantime
                    self._locks.release(image.scene)
                else:
                    batch.append(image)
            if batch:
                yield batch
            elif todo:
                _LOG.info("%s: waiting for another process that generates it", todo[0].scene)
                self._locks.acquire(todo[0].scene, wait=True)
                self._locks.release(todo[0].scene)

    def _store(self, image: CollectionImage, result: Scene4D | Failure, count: str) -> None:
        """Write a scene, or record a failure; then release the lock."""
        if isinstance(result, Scene4D):
            own = {"image": image.file, **image.made_with}
            scene = replace(result, name=image.scene, provenance=result.provenance | own)
            write_scene_folder(scene, self._out / image.scene)
            self.done += 1
            _LOG.info("%s: %s%s", count, image.scene, _cache_hits(scene.provenance))
        else:
            reason = result.reason.replace(f"{image.path}: ", "")
            self.failed[image.file] = {"file": image.file, "reason": reason, "made_with": image.made_with}
            with self._locks.records():
                write_failed(self._out, read_failed(self._out) | {image.file: self.failed[image.file]})
            _LOG.warning("%s: %s failed: %s", count, image.file, reason)
        self._locks.release(image.scene)


def _cache_hits(provenance: dict[str, Any]) -> str:
    """How many forward passes the cache saved, for the log; empty without a cache."""
    hits, passes = provenance["cache_hits"], provenance["forward_passes"]
    return f", {hits} of {passes} forward passes from the cache" if provenance["sampling"]["cache_threshold"] else ""
