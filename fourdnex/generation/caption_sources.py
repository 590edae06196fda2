"""What the caption of an image comes from, and what its scene therefore depends on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourdnex.generation.camera_captions import camera_sentence, with_camera
from fourdnex.generation.captioner import Captioner, captioner_identity
from fourdnex.generation.captions import Captions, find_captions
from fourdnex.io.images import read_thumbnail

DEFAULT_PROMPT = camera_sentence("orbit-right", "slowly")
"""Of images without a caption: it says nothing of what they show."""
SHOWN_TO_CAPTIONER = 512
"""Pixels a side; networks scale images to at most about that."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How images are captioned (`fourdnex.generation.captions` says what goes before what)."""

    prompt: str | None = None
    """For all that have no caption of their own."""
    captions: str | os.PathLike[str] | None = None
    """A table, NAME.csv or NAME.jsonl, with columns image and prompt."""
    captioner: str | os.PathLike[str] | None = None
    """Folder of a network that captions the others."""
    camera: str | None = None
    """Way of the camera, in place of what captions say of it."""
    camera_pace: str = "slowly"

    def __post_init__(self) -> None:
        if self.captioner is not None and self.prompt is not None:
            raise ValueError(f"captioner: expected no prompt for all beside it, got {self.prompt!r}")
        camera_sentence(self.camera or "still", self.camera_pace)  # refuses unknown words

    def find(self, source: Path, images: Iterable[Path]) -> Captions:
        """The images' own captions; see `find_captions`."""
        return find_captions(source, images, self.captions)

    def of(self, captions: Captions, default: str) -> Callable[[str], dict[str, Any]]:
        """Of an image's path within its folder, what its scene depends on: its prompt, or what gives it.

        Raises:
            ValueError: from the result, where an image's own caption cannot be read.
        """
        sentence = None if self.camera is None else camera_sentence(self.camera, self.camera_pace)
        given = {} if self.captioner is None else {"captioner": captioner_identity(self.captioner)}

        def wording(file: str) -> dict[str, Any]:
            if file in captions.errors:
                raise ValueError(captions.errors[file])
            own = captions.texts.get(file, self.prompt)
            if own is None and given:
                return {**given, "camera": sentence or default}
            text = default if own is None else own
            return {"prompt": text if sentence is None else with_camera(text, sentence)}

        return wording

    def writer(self) -> Callable[[Path, dict[str, Any]], str]:
        """Gives the prompt of an image file by what `of` says of it; loads the captioner when it is first needed."""
        loaded: list[Captioner] = []

        def write(path: Path, known: dict[str, Any]) -> str:
            if "prompt" in known:
                return str(known["prompt"])
            assert self.captioner is not None
            if not loaded:
                loaded.append(Captioner(self.captioner))
            return with_camera(loaded[0].caption(read_thumbnail(path, SHOWN_TO_CAPTIONER)), known["camera"])

        return write
