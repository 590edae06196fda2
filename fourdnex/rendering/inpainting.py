"""Filling holes of an image by invention."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FOREGROUND = 0.8
"""Of the two ends of a hole, the one nearer than this share of the other's depth is in front of what the hole shows."""


class Inpainter(Protocol):
    """Invents the missing pixels of an image; anything callable like this will do."""

    def __call__(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """A complete image [H, W, 3] uint8, like `image` wherever `depth` [H, W] is finite: elsewhere is a hole."""
        ...


class OpenCVInpainter:
    """Telea's fast marching (OpenCV): carries colors and edges in from the border. For gaps, not for half an image.

    Holes open behind things, so what stands in front of a hole is covered for the time with what lies behind it. The
    middle of wide holes is filled at a quarter of the size first: fast, and without streaks.
    """

    def __init__(self, *, radius: int = 4) -> None:
        self.radius = radius

    def __call__(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        import cv2

        missing = ~np.isfinite(depth)
        if missing.all() or not missing.any():
            return image.copy()
        height, width = missing.shape
        # The fine fill looks `radius` pixels far, the coarse one four times that.
        filled, left = _without_foreground(image, depth, reach=4 * self.radius + 4), missing
        deep = cv2.erode(missing.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1).astype(bool)
        small = (width // 4, height // 4)
        if deep.any() and min(small) >= 8:
            share = cv2.resize((~missing).astype(np.float32), small, interpolation=cv2.INTER_AREA)
            known = filled.astype(np.float32) * ~missing[..., None]
            means = cv2.resize(known, small, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
            coarse = means.round().clip(0, 255).astype(np.uint8)
            coarse = cv2.inpaint(coarse, (share < 0.25).astype(np.uint8), self.radius, cv2.INPAINT_TELEA)
            large = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.5), (width, height), interpolation=cv2.INTER_CUBIC)
            filled[deep] = large[deep]
            left = missing & ~deep
        filled = cv2.inpaint(filled, left.astype(np.uint8), self.radius, cv2.INPAINT_TELEA)
        return np.where(missing[..., None], filled, image)


class DiffusersInpainter:
    """An inpainting pipeline of diffusers from a local folder; loaded at the first image, nothing is downloaded.

    Args:
        folder: a pipeline in the Diffusers layout, weights as safetensors.
        prompt: what the images show.
        num_inference_steps: sampling steps.
        device: of torch.
        seed: the same for every image, so that the frames of a video differ as little as can be.

    Raises:
        FileNotFoundError: the folder holds no pipeline.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        prompt: str = "",
        num_inference_steps: int = 20,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if not (Path(folder) / "model_index.json").is_file():
            raise FileNotFoundError(f"{folder}: expected a pipeline in the Diffusers layout, with model_index.json")
        self.folder, self.prompt, self.device = Path(folder), prompt, device
        self.num_inference_steps, self.seed = num_inference_steps, seed
        self._pipeline: Any = None

    def __call__(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        import torch
        from PIL import Image

        missing = ~np.isfinite(depth)
        if not missing.any():
            return image.copy()
        pipeline = self._load()
        height, width = missing.shape
        # The pipelines take multiples of 8: the image is continued by its own border.
        edges = ((0, -height % 8), (0, -width % 8))
        padded = np.pad(image, (*edges, (0, 0)), mode="edge")
        mask = np.pad(missing, edges, mode="edge")
        (made,) = pipeline(
            prompt=self.prompt,
            image=Image.fromarray(padded),
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=padded.shape[0],
            width=padded.shape[1],
            num_inference_steps=self.num_inference_steps,
            generator=torch.Generator().manual_seed(self.seed),
        ).images
        return np.where(missing[..., None], np.asarray(made.convert("RGB"))[:height, :width], image)

    def _load(self) -> Any:
        if self._pipeline is None:
            from diffusers import AutoPipelineForInpainting

            pipeline = AutoPipelineForInpainting.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True
            ).to(self.device)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline
        return self._pipeline


def inpainter(name: str | os.PathLike[str], *, device: str = "cpu") -> Inpainter | None:
    """ "opencv", "none" (holes stay), or a folder with an inpainting pipeline of diffusers.

    Raises:
        ValueError: none of these.
    """
    if name == "none":
        return None
    if name == "opencv":
        return OpenCVInpainter()
    if not Path(name).is_dir():
        raise ValueError(f"inpaint: expected 'opencv', 'none' or a folder with a diffusers pipeline, got {name}")
    return DiffusersInpainter(name, device=device)


def _without_foreground(image: np.ndarray, depth: np.ndarray, *, reach: int) -> np.ndarray:
    """The image with every stretch of foreground beside a hole, `reach` pixels wide, painted like what is behind.

    Row by row: of a hole's two ends the farther one is what it shows, and gives its color to the nearer one. A hole
    that runs out of the image has one end only, and keeps it.
    """
    height, width = depth.shape
    known = np.isfinite(depth)
    columns = np.broadcast_to(np.arange(width), (height, width))
    after = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    painted = image.copy()
    # The pixels beside holes that have two ends: (row, column at the left end, column at the right end).
    row, start = np.nonzero(known[:, :-1] & ~known[:, 1:])
    stop = after[row, start + 1]
    row, start, stop = (values[stop < width] for values in (row, start, stop))
    for near, far, step in ((stop, start, 1), (start, stop, -1)):
        hidden = depth[row, near] < FOREGROUND * depth[row, far]
        rows, colors = row[hidden], image[row[hidden], far[hidden]]
        for distance in range(reach):
            column = near[hidden] + step * distance
            inside = (column >= 0) & (column < width)
            painted[rows[inside], column[inside]] = colors[inside]
    return painted
