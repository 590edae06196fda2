"""Single images to 4D scenes: the model is loaded once and generates in batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fourdnex.annotation import ClipAnnotator
from fourdnex.generation.camera_captions import camera_sentence, with_camera
from fourdnex.generation.caption_sources import DEFAULT_PROMPT
from fourdnex.generation.first_frame_geometry import FirstFrameGeometry, NetworkGeometry, listed_geometry
from fourdnex.generation.photo_resolution import ImageInput
from fourdnex.generation.pointmap_files import PointMapSource
from fourdnex.generation.scene_maker import Failure, SceneMaker, image_name
from fourdnex.model.adapter import Adapter
from fourdnex.model.base import Base
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.recipe import Recipe
from fourdnex.scene import Scene4D

__all__ = ["Failure", "generate", "generate_each"]


def generate(
    images: Iterable[ImageInput],
    *,
    model: str | Path = "tiny",
    adapter: str | Path | None = None,
    prompts: Sequence[str] | str | None = None,
    camera: str | None = None,
    camera_pace: str = "slowly",
    seed: int = 0,
    first_frame_geometry: Sequence[PointMapSource] | np.ndarray | ClipAnnotator | None = None,
    size: str | tuple[int, int] = "image",
    resolution: str | int = "auto",
    batch_size: int = 4,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> Iterator[Scene4D]:
    """Generate one scene for each image; the model is loaded once.

    Args:
        images: paths, PIL images, or [H, W, 3] uint8 arrays.
        model: preset name or folder of the base.
        adapter: adapter folder. None generates with the base alone, whose XYZ is meaningless.
        prompts: one caption for all images, or one for each. None takes a generic caption.
        camera: camera motion such as "orbit-left" or "dolly-in" (`fourdnex.generation.camera_captions`); it replaces
            what the captions say about the camera. None leaves the captions as they are.
        camera_pace: speed of `camera`: "slowly", "steadily" or "quickly".
        seed: of the noise. The scene of an image depends on it, not on the batch.
        first_frame_geometry: first-frame point maps or depth, only for an adapter trained with `xyz_init="pointmap"`: a
            list or an array with one entry for each image (see `fourdnex.generation.pointmap_files`), or an annotator
            that estimates them. None takes the depth network that comes with the base, if there is one. Scenes have the
            unit of the geometry.
        size: of the generated frames: "image" keeps the aspect ratio of each image at about the base's area, without a
            crop between 1:3 and 3:1 (`fourdnex.model.sizes`); "base" crops images to the base's own size; or
            (height, width) or "480x720".
        resolution: of the scenes: "model" for the generated frames, "photo" for the photograph's own pixels, a number
            of pixels for the longer side, or "auto" for the preset's choice. Scenes larger than the generated frames
            show the photograph's detail wherever its points are visible (`fourdnex.lifting`), and never have more
            pixels than the photograph.
        batch_size: images per forward pass; images of different sizes do not share one.
        provenance: added to the provenance of every scene.
        memory: what to do when the model does not fit into the GPU.
        **sampling: fields of `SamplingSettings` that override the preset's, such as `num_inference_steps=50`.

    Yields:
        Scenes in the order of `images`; the world frame is that of the first camera.

    Raises:
        ValueError: an image cannot be read or gives no scene (`generate_each` continues after it), settings do not fit
            the model, or a prompt is too long.
    """
    for result in generate_each(
        images,
        model=model,
        adapter=adapter,
        prompts=prompts,
        camera=camera,
        camera_pace=camera_pace,
        seed=seed,
        first_frame_geometry=first_frame_geometry,
        size=size,
        resolution=resolution,
        batch_size=batch_size,
        provenance=provenance,
        memory=memory,
        **sampling,
    ):
        if isinstance(result, Failure):
            raise ValueError(f"{result.name}: {result.reason}")
        yield result


def generate_each(
    images: Iterable[ImageInput],
    *,
    model: str | Path = "tiny",
    adapter: str | Path | None = None,
    prompts: Sequence[str] | str | None = None,
    camera: str | None = None,
    camera_pace: str = "slowly",
    seed: int = 0,
    first_frame_geometry: Sequence[PointMapSource] | np.ndarray | ClipAnnotator | None = None,
    size: str | tuple[int, int] = "image",
    resolution: str | int = "auto",
    batch_size: int = 4,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> Iterator[Scene4D | Failure]:
    """Like `generate`, but an image that fails yields a `Failure` with the reason, and the others are generated."""
    if isinstance(images, (str, Path, Image.Image)):
        raise ValueError(f"images: expected several, got one ({images}); put it in a list")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    inputs = list(images)
    captions = _captions(prompts, len(inputs))
    if camera is not None:
        captions = [with_camera(caption, camera_sentence(camera, camera_pace)) for caption in captions]
    if "starts" in sampling:
        warnings.warn("starts: renamed to first_frame_geometry", DeprecationWarning, stacklevel=3)
        first_frame_geometry = sampling.pop("starts")
    geometry: FirstFrameGeometry | None = None
    if first_frame_geometry is not None:
        geometry = listed_geometry(first_frame_geometry, len(inputs))
    base = Base.resolve(model)
    trained = None if adapter is None else Adapter.read(adapter)
    if geometry is None:
        network = base.depth_network_for(Recipe() if trained is None else trained.info)
        geometry = None if network is None else NetworkGeometry(network)
    maker = SceneMaker(
        base=base,
        adapter=trained,
        geometry=geometry,
        seed=seed,
        size=size,
        resolution=resolution,
        provenance=provenance,
        memory=memory,
        **sampling,
    )
    if prompts is None or isinstance(prompts, str):
        maker.check_prompts(captions[:1])
    for first in range(0, len(inputs), batch_size):
        part = slice(first, first + batch_size)
        names = [image_name(image, number) for number, image in enumerate(inputs[part], first)]
        keys = range(first, first + len(names))
        yield from maker.make(inputs[part], captions[part], keys=keys, names=names)


def _captions(prompts: Sequence[str] | str | None, count: int) -> list[str]:
    """One caption for each image."""
    if prompts is None:
        return [DEFAULT_PROMPT] * count
    if isinstance(prompts, str):
        return [prompts] * count
    if len(prompts) != count:
        raise ValueError(f"prompts: expected one for each of {count} images, got {len(prompts)}")
    return list(prompts)
