"""Where the caption of an image comes from, and the provenance it gives the scene."""

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
"""Caption of images without one; it says nothing about their content."""
CAPTIONER_SIDE = 512
"""Longer side of the images that a captioner gets, in pixels; captioners scale images to at most about that."""


@dataclass(frozen=True, kw_only=True)
class CaptionSources:
    """Sources of captions; `fourdnex.generation.captions` gives their order."""

    prompt: str | None = None
    """Caption of all images without one of their own."""
    captions: str | os.PathLike[str] | None = None
    """Table NAME.csv or NAME.jsonl with columns image and prompt."""
    captioner: str | os.PathLike[str] | None = None
    """Folder of an image-to-text model that captions the other images."""
    camera: str | None = None
    """Camera motion that replaces what captions say about the camera."""
    camera_pace: str = "slowly"
    """Speed of the camera motion."""

    def __post_init__(self) -> None:
        if self.captioner is not None and self.prompt is not None:
            raise ValueError(f"captioner: expected no prompt besides, got {self.prompt!r}")
        camera_sentence(self.camera or "still", self.camera_pace)  # raises for unknown values

    def find(self, source: Path, images: Iterable[Path]) -> Captions:
        """The captions of individual images, see `find_captions`."""
        return find_captions(source, images, self.captions)

    def provenance(self, captions: Captions, default: str) -> Callable[[str], dict[str, Any]]:
        """A function from the path of an image (POSIX, within its folder) to the provenance of its caption.

        The provenance is the prompt, or for the captioner's images its identity and the camera's sentence.

        Raises:
            ValueError: from the function, if the caption of the image cannot be read.
        """
        sentence = None if self.camera is None else camera_sentence(self.camera, self.camera_pace)
        identity = {} if self.captioner is None else {"captioner": captioner_identity(self.captioner)}

        def provenance(file: str) -> dict[str, Any]:
            """The provenance of one image's caption."""
            if file in captions.errors:
                raise ValueError(captions.errors[file])
            text = captions.texts.get(file, self.prompt)
            if text is None and identity:
                return {**identity, "camera": sentence or default}
            text = default if text is None else text
            return {"prompt": text if sentence is None else with_camera(text, sentence)}

        return provenance

    def writer(self) -> Callable[[Path, dict[str, Any]], str]:
        """A function from an image file and its caption's provenance to the prompt.

        The captioner is loaded when the first image needs it.
        """
        loaded: list[Captioner] = []

        def write(path: Path, provenance: dict[str, Any]) -> str:
            """The prompt of one image."""
            if "prompt" in provenance:
                return str(provenance["prompt"])
            assert self.captioner is not None
            if not loaded:
                loaded.append(Captioner(self.captioner))
            return with_camera(loaded[0].caption(read_thumbnail(path, CAPTIONER_SIDE)), provenance["camera"])

        return write
