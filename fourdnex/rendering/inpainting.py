"""Inpainting of disoccluded regions."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FOREGROUND = 0.8
"""The end of a hole with less than this fraction of the other end's depth is foreground."""


class Inpainter(Protocol):
    """Interface of inpainting functions."""

    def __call__(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Fill the holes of an image [H, W, 3] uint8, where `depth` [H, W] is not finite; keep all other pixels."""
        ...


class OpenCVInpainter:
    """Telea's fast marching inpainting (OpenCV), which extrapolates colors from the border. For small regions.

    Disoccluded regions show background, so foreground pixels at a hole are temporarily replaced by the background's
    colors. The interior of wide holes is filled at a quarter of the resolution first, which is fast and avoids streaks.
    """

    def __init__(self, *, radius: int = 4) -> None:
        self.radius = radius

    def __call__(self, image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Fill the holes of an image; see `Inpainter`."""
        import cv2

        missing = ~np.isfinite(depth)
        if missing.all() or not missing.any():
            return image.copy()
        height, width = missing.shape
        # The fine pass uses pixels within `radius`, the coarse one within four times that.
        filled, remaining = _without_foreground(image, depth, reach=4 * self.radius + 4), missing
        interior = cv2.erode(missing.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1).astype(bool)
        small = (width // 4, height // 4)
        if interior.any() and min(small) >= 8:
            coverage = cv2.resize((~missing).astype(np.float32), small, interpolation=cv2.INTER_AREA)
            valid = filled.astype(np.float32) * ~missing[..., None]
            means = cv2.resize(valid, small, interpolation=cv2.INTER_AREA) / np.maximum(coverage, 1e-6)[..., None]
            coarse = means.round().clip(0, 255).astype(np.uint8)
            coarse = cv2.inpaint(coarse, (coverage < 0.25).astype(np.uint8), self.radius, cv2.INPAINT_TELEA)
            large = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.5), (width, height), interpolation=cv2.INTER_CUBIC)
            filled[interior] = large[interior]
            remaining = missing & ~interior
        filled = cv2.inpaint(filled, remaining.astype(np.uint8), self.radius, cv2.INPAINT_TELEA)
        return np.where(missing[..., None], filled, image)


class DiffusersInpainter:
    """A diffusers inpainting pipeline from a local folder, loaded on first use; nothing is downloaded.

    Args:
        folder: a pipeline in the Diffusers layout with safetensors weights.
        prompt: text prompt that describes the images.
        num_inference_steps: number of denoising steps.
        device: torch device.
        seed: seed of the noise, the same for all images to reduce flicker.

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
        """Fill the holes of an image; see `Inpainter`."""
        import torch
        from PIL import Image

        missing = ~np.isfinite(depth)
        if not missing.any():
            return image.copy()
        pipeline = self._load()
        height, width = missing.shape
        # Pipelines require multiples of 8: the image is padded with its border pixels.
        edges = ((0, -height % 8), (0, -width % 8))
        padded = np.pad(image, (*edges, (0, 0)), mode="edge")
        mask = np.pad(missing, edges, mode="edge")
        (output,) = pipeline(
            prompt=self.prompt,
            image=Image.fromarray(padded),
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=padded.shape[0],
            width=padded.shape[1],
            num_inference_steps=self.num_inference_steps,
            generator=torch.Generator().manual_seed(self.seed),
        ).images
        return np.where(missing[..., None], np.asarray(output.convert("RGB"))[:height, :width], image)

    def _load(self) -> Any:
        """The pipeline."""
        if self._pipeline is None:
            from diffusers import AutoPipelineForInpainting

            pipeline = AutoPipelineForInpainting.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True
            ).to(self.device)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline
        return self._pipeline


def inpainter(name: str | os.PathLike[str], *, device: str = "cpu") -> Inpainter | None:
    """The inpainter of a name: "opencv", "none" (no inpainting), or a folder with a diffusers inpainting pipeline.

    Raises:
        ValueError: another name that is not a folder.
        FileNotFoundError: the folder holds no pipeline.
    """
    if name == "none":
        return None
    if name == "opencv":
        return OpenCVInpainter()
    if not Path(name).is_dir():
        raise ValueError(f"inpaint: expected 'opencv', 'none' or a folder with a diffusers pipeline, got {name}")
    return DiffusersInpainter(name, device=device)


def _without_foreground(image: np.ndarray, depth: np.ndarray, *, reach: int) -> np.ndarray:
    """The image with foreground pixels within `reach` of a hole replaced by the background's color.

    Per row: the farther end of a hole is background, and its color replaces the nearer end if that is foreground. Holes
    at the image border have one end and are not changed.
    """
    height, width = depth.shape
    is_valid = np.isfinite(depth)
    columns = np.broadcast_to(np.arange(width), (height, width))
    next_valid = np.minimum.accumulate(np.where(is_valid, columns, width)[:, ::-1], axis=1)[:, ::-1]
    painted = image.copy()
    # Holes with two ends: row, valid column on the left, valid column on the right.
    row, start = np.nonzero(is_valid[:, :-1] & ~is_valid[:, 1:])
    stop = next_valid[row, start + 1]
    row, start, stop = (values[stop < width] for values in (row, start, stop))
    for near, far, step in ((stop, start, 1), (start, stop, -1)):
        is_foreground = depth[row, near] < FOREGROUND * depth[row, far]
        rows, colors = row[is_foreground], image[row[is_foreground], far[is_foreground]]
        for distance in range(reach):
            column = near[is_foreground] + step * distance
            inside = (column >= 0) & (column < width)
            painted[rows[inside], column[inside]] = colors[inside]
    return painted
