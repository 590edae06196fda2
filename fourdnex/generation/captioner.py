"""Captions by a network: any image-to-text model of transformers, from a local folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from PIL import Image

from fourdnex.io.files import sha256_file
from fourdnex.quiet import hide_progress_bars

MAX_NEW_TOKENS = 64


class Captioner:
    """Captions images with greedy decoding, so that an image always gets the same caption.

    `folder` holds a model in the Hugging Face layout that captions images without a text prompt, such as BLIP:
    `config.json`, the processor's files, and safetensors weights. Nothing is downloaded, and no code from the folder is
    executed. The captioner runs on the CPU; the GPU is left to the base model.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder holds no captioner, or its weights are damaged or not safetensors.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        _check_folder(folder)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor = AutoProcessor.from_pretrained(folder, **options)
            with hide_progress_bars():
                model = AutoModelForImageTextToText.from_pretrained(
                    folder, use_safetensors=True, dtype=torch.float32, **options
                )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ValueError(
                f"captioner: {folder}: expected an image-to-text model of transformers with safetensors weights, "
                f"got {error}"
            ) from error
        self._model = model.eval()

    def caption(self, image: Image.Image) -> str:
        """A caption of an RGB image, on one line.

        Raises:
            ValueError: the network returns no text.
        """
        import torch

        inputs = self._processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, num_beams=1)
        (text,) = self._processor.batch_decode(tokens, skip_special_tokens=True)
        caption = " ".join(text.split())
        if not caption:
            raise ValueError("captioner: expected a caption, got empty text")
        return caption


def captioner_identity(folder: str | os.PathLike[str]) -> str:
    """Identity of a captioner: 16 hexadecimal digits of the SHA-256 of its weights, configurations and vocabulary.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check_folder(folder)
    files = sorted(
        path for path in Path(folder).iterdir() if path.suffix in (".json", ".safetensors", ".txt", ".model")
    )
    return hashlib.sha256("".join(path.name + sha256_file(path) for path in files).encode()).hexdigest()[:16]


def _check_folder(folder: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError if the folder holds no model."""
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"captioner: {folder}: expected a folder with config.json; nothing is downloaded")
