"""A loaded model that generates scenes, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.generation.first_frame_geometry import FirstFrameGeometry, Key
from fourdnex.generation.photo_resolution import ImageInput, lift_to_photo, read_fitted
from fourdnex.generation.reconstruction import scene_from_video
from fourdnex.identity import of_scene
from fourdnex.io.images import upright_size
from fourdnex.lifting import parse_resolution
from fourdnex.model.adapter import Adapter
from fourdnex.model.base import Base
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.recipe import Recipe
from fourdnex.model.sizes import Fit, fit_image, parse_size
from fourdnex.scene import Scene4D


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image for which no scene could be generated."""

    name: str
    reason: str


class SceneMaker:
    """A loaded model that generates scenes, batch by batch."""

    def __init__(
        self,
        *,
        base: Base,
        adapter: Adapter | None = None,
        geometry: FirstFrameGeometry | None = None,
        seed: int = 0,
        size: str | tuple[int, int] = "image",
        resolution: str | int = "auto",
        provenance: dict[str, Any] | None = None,
        memory: MemorySettings | None = None,
        **sampling: Any,
    ) -> None:
        """Load the model.

        Args:
            base: the base model.
            adapter: None generates with the base alone.
            geometry: first-frame geometry, for an adapter that needs it.
            seed, size, resolution, memory, sampling: see `fourdnex.generation.generate`.
            provenance: written into every scene; what it names is not looked up again.

        Raises:
            ValueError: the settings do not fit the base, or the geometry does not fit the adapter.
        """
        preset = base.preset
        self._settings = preset.sampling.with_changes(**sampling)
        self._size = parse_size(size, (preset.height, preset.width))
        self._resolution = parse_resolution(resolution, default=preset.resolution)
        if memory is not None and memory.fp8_storage and self._settings.distilled_lora is not None:
            raise ValueError(
                "fp8_storage: expected False with a step-distilled LoRA, whose matrices have the type of the weights, "
                "got True"
            )
        recipe = Recipe() if adapter is None else adapter.info
        recipe.check_first_pointmaps(geometry is not None)
        self._pipeline, self._preset = load_pipeline(base, adapter, memory=memory)
        self._geometry, self._seed = geometry, seed
        identity = adapter.info.identity if adapter is not None else {}
        provenance = provenance or {}
        self._provenance = {
            **of_scene(identity, **{key: provenance[key] for key in ("git_commit",) if key in provenance}),
            "model": preset.name,
            "base_location": preset.location,
            "base_digest": base.digest,
            "seed": seed,
            "sampling": self._settings.to_json(),
            "precision": self._pipeline.precision,
            "adapter_digest": adapter.digest if adapter is not None else None,
            "adapter_identity": identity or None,
        } | provenance
        self._provenance |= memory.changes() if memory else {}

    def check_prompts(self, captions: list[str]) -> None:
        """Raise ValueError for captions that are too long for the base."""
        self._pipeline.check_prompts(captions)

    def make(
        self,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        *,
        keys: Sequence[Key] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Scene4D | Failure]:
        """Generate the scenes of one batch, in its order.

        Args:
            images: the batch; images of one size share a forward pass.
            captions: one for each.
            keys: of each image in the first-frame geometry; None counts from 0.
            names: of the scenes; None takes the file names.
        """
        keys = list(range(len(images))) if keys is None else keys
        names = names or [image_name(image, number) for number, image in enumerate(images)]
        fits: dict[int, Fit] = {}
        pixels: dict[int, np.ndarray] = {}
        points: dict[int, np.ndarray] = {}
        results: dict[int, Scene4D | Failure] = {}
        for i, image in enumerate(images):
            try:
                self._pipeline.tokens(captions[i], "prompt")  # raises if it is too long
                fits[i] = self._fit(image, names[i])
                fitted = read_fitted(image, fits[i], names[i])
                if self._geometry is not None:
                    points[i] = self._geometry.pointmap(keys[i], fitted, fits[i], name=names[i])
                pixels[i] = fitted
            except (ValueError, OSError) as error:
                results[i] = Failure(name=names[i], reason=str(error))
        for group in _groups_by_size(pixels):
            video = self._pipeline.generate(
                np.stack([pixels[i] for i in group]),
                [captions[i] for i in group],
                num_frames=self._preset.num_frames,
                seeds=[self._seed] * len(group),
                sampling=self._settings,
                first_pointmaps=np.stack([points[i] for i in group]) if points else None,
            )
            for k, i in enumerate(group):
                try:
                    scene = scene_from_video(
                        video.rgb[k],
                        denormalize_to_world(video.xyz[k], self._pipeline.adapter_info, points.get(i)),
                        fps=self._preset.fps,
                        name=names[i],
                        provenance=self._provenance
                        | {"prompt": captions[i], **fits[i].to_json(), **video.passes[k].to_json()},
                        pixel_aspect=fits[i].pixel_aspect,
                    )
                    results[i] = lift_to_photo(scene, images[i], fits[i], self._resolution, name=names[i])
                except ValueError as error:
                    results[i] = Failure(name=names[i], reason=str(error))
        return [results[i] for i in range(len(images))]

    def _fit(self, image: ImageInput, name: str) -> Fit:
        """How an image is scaled and cropped to the size of the frames."""
        info, base_size = self._pipeline.adapter_info, (self._preset.height, self._preset.width)
        rule = "fixed" if info is None else info.size
        return fit_image(upright_size(image, name=name), base_size, size=self._size, rule=rule)


def image_name(image: ImageInput, number: int) -> str:
    """The name of an image's scene: its file's stem, or its number."""
    return Path(image).stem if isinstance(image, (str, Path)) else f"image-{number:04d}"


def _groups_by_size(pixels: dict[int, np.ndarray]) -> list[list[int]]:
    """Indices of the images that can share a forward pass."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, fitted in pixels.items():
        groups.setdefault(fitted.shape, []).append(number)
    return list(groups.values())
