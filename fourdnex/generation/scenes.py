"""Single images to 4D scenes: the model is loaded once, images go through it in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fourdnex.annotation import Annotator, DepthNetwork
from fourdnex.generation.camera_captions import camera_sentence, with_camera
from fourdnex.generation.caption_sources import DEFAULT_PROMPT
from fourdnex.generation.first_frame_geometry import (
    Start,
    Starts,
    annotated_first_pointmap,
    default_network,
    one_an_image,
    read_first_pointmap,
)
from fourdnex.generation.lift_scene import ImageInput, lifted, read_fitted
from fourdnex.geometry.cameras import invert_pose
from fourdnex.geometry.recovery import recover_cameras
from fourdnex.identity import of_scene
from fourdnex.io.images import upright_size
from fourdnex.lifting import parse_resolution
from fourdnex.model.adapter import adapter_digest
from fourdnex.model.denormalization import denormalize_to_world
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import load_pipeline
from fourdnex.model.presets import base_digest, get_preset
from fourdnex.model.sizes import Fit, fit_image, parse_size
from fourdnex.scene import Scene4D


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that gave no scene."""

    name: str
    reason: str


def generate(
    images: Iterable[ImageInput],
    *,
    model: str | Path = "tiny",
    adapter: str | Path | None = None,
    prompts: Sequence[str] | str | None = None,
    camera: str | None = None,
    camera_pace: str = "slowly",
    seed: int = 0,
    first_frame_geometry: Starts | None = None,
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
        model: preset or folder of the base.
        adapter: adapter folder; None is the base alone, whose XYZ means nothing.
        prompts: one caption for all, or one an image; None takes a general one.
        camera: the way of the camera, such as "orbit-left" or "dolly-in" (`fourdnex.generation.camera_captions`), written
            at the end of each caption, in place of what it says of the camera; None leaves captions as they are.
        camera_pace: "slowly", "steadily" or "quickly".
        seed: of the noise; an image's scene depends on it, not on its batch.
        first_frame_geometry: for an adapter trained with a given start, and no other: the images' first point maps (see
            `read_first_pointmap`), a list or an array with one an image, or an annotator that finds them; None is the depth
            network that comes with the base, if one does. Scenes then have the first_frame_geometry' unit.
        size: of the scenes: "image", each image's own ratio at about the base's area, nothing cut between 1:3 and 3:1
            (`fourdnex.model.sizes`); "base", the base's own size; or (height, width) or "480x720", to which images
            are cut.
        resolution: of the scenes: "model", the frames as they are generated; "photo", the photograph's own pixels;
            pixels of the longer side; or "auto", the preset's choice. Scenes larger than the model's frames show the
            photograph's detail wherever its points are seen (`fourdnex.lifting`), and never more pixels than it has.
        batch_size: images a forward pass; those of different sizes do not share one.
        provenance: written into every scene beside what is known here.
        memory: what to do when the model does not fit into the GPU.
        **sampling: fields of `SamplingSettings` in place of the preset's, such as `num_inference_steps=50`.

    Yields:
        Scenes in the order of `images`; world = frame of the first camera.

    Raises:
        ValueError: for an image that cannot be read or gives no scene (use `generate_each` to go on past it), for
            settings that do not fit, and for a prompt that is too long.
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
    first_frame_geometry: Starts | None = None,
    size: str | tuple[int, int] = "image",
    resolution: str | int = "auto",
    batch_size: int = 4,
    provenance: dict[str, Any] | None = None,
    memory: MemorySettings | None = None,
    **sampling: Any,
) -> Iterator[Scene4D | Failure]:
    """As `generate`, but an image without a scene becomes a `Failure` with its reason, and the rest goes on."""
    if isinstance(images, (str, Path, Image.Image)):
        raise ValueError(f"images: expected several, got one ({images}); put it in a list")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    inputs = list(images)
    captions = _captions(prompts, len(inputs))
    if camera is not None:
        captions = [with_camera(caption, camera_sentence(camera, camera_pace)) for caption in captions]
    if first_frame_geometry is None and (network := default_network(model, adapter)) is not None:
        first_frame_geometry = DepthNetwork(network)
    given = None if first_frame_geometry is None else one_an_image(first_frame_geometry, len(inputs))
    maker = SceneMaker(
        model=model,
        adapter=adapter,
        seed=seed,
        with_first_pointmaps=given is not None,
        size=size,
        resolution=resolution,
        provenance=provenance,
        memory=memory,
        **sampling,
    )
    if prompts is None or isinstance(prompts, str):
        maker.check_prompts(captions[:1])
    for start in range(0, len(inputs), batch_size):
        part = slice(start, start + batch_size)
        names = [_name(image, number) for number, image in enumerate(inputs[part], start)]
        own = given[part] if isinstance(given, list) else given
        yield from maker.make(inputs[part], captions[part], own, names=names)


class SceneMaker:
    """A loaded model, which makes scenes of one batch of images after another."""

    def __init__(
        self,
        *,
        model: str | Path = "tiny",
        adapter: str | Path | None = None,
        seed: int = 0,
        with_first_pointmaps: bool = False,
        size: str | tuple[int, int] = "image",
        resolution: str | int = "auto",
        provenance: dict[str, Any] | None = None,
        memory: MemorySettings | None = None,
        **sampling: Any,
    ) -> None:
        """Arguments are those of `generate`; `with_first_pointmaps`: whether first point maps come with the images."""
        preset = get_preset(model)
        self._settings = preset.sampling.with_changes(**sampling)
        self._size = parse_size(size, (preset.height, preset.width))
        self._resolution = parse_resolution(resolution, default=preset.resolution)
        if memory is not None and memory.fp8_storage and self._settings.distilled_lora is not None:
            raise ValueError(
                "fp8_storage: expected False with a step-distilled LoRA, which takes the type of the weights, got True"
            )
        self._pipeline, self._preset = load_pipeline(model, adapter, memory=memory)
        self._pipeline.recipe.check_first_pointmaps(with_first_pointmaps)
        self._seed = seed
        own = self._pipeline.adapter_info.identity if self._pipeline.adapter_info else {}
        self._known = {
            **of_scene(own),
            "model": self._preset.name,
            "base_location": self._preset.location,
            "base_digest": base_digest(self._preset.location),
            "seed": seed,
            "sampling": self._settings.to_json(),
            "precision": self._pipeline.precision,
            "adapter_digest": adapter_digest(Path(adapter)) if adapter is not None else None,
            "adapter_identity": own or None,
        } | (provenance or {})
        self._known |= memory.changes() if memory else {}

    def check_prompts(self, captions: list[str]) -> None:
        """Refuse captions that are too long for the base (ValueError)."""
        self._pipeline.check_prompts(captions)

    def make(
        self,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        first_frame_geometry: list[Start] | Annotator | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> list[Scene4D | Failure]:
        """The scenes of one batch, in its order; `first_frame_geometry` as `one_an_image` gives them."""
        names = names or [_name(image, number) for number, image in enumerate(images)]
        fits: dict[int, Fit] = {}
        pixels: dict[int, np.ndarray] = {}
        points: dict[int, np.ndarray] = {}
        results: dict[int, Scene4D | Failure] = {}
        for i, image in enumerate(images):
            try:
                self._pipeline.tokens(captions[i], "prompt")  # refuses one that is too long
                fits[i] = self._fit(image, names[i])
                fitted = read_fitted(image, fits[i], names[i])
                if first_frame_geometry is not None:
                    points[i] = _start(first_frame_geometry, i, fitted, fits[i], names[i])
                pixels[i] = fitted
            except (ValueError, OSError) as error:
                results[i] = Failure(name=names[i], reason=str(error))
        for good in _of_one_size(pixels):
            video = self._pipeline.generate(
                np.stack([pixels[i] for i in good]),
                [captions[i] for i in good],
                num_frames=self._preset.num_frames,
                seeds=[self._seed] * len(good),
                sampling=self._settings,
                first_pointmaps=np.stack([points[i] for i in good]) if points else None,
            )
            for k, i in enumerate(good):
                try:
                    scene = scene_from_video(
                        video.rgb[k],
                        denormalize_to_world(video.xyz[k], self._pipeline.adapter_info, points.get(i)),
                        fps=self._preset.fps,
                        name=names[i],
                        provenance=self._known
                        | {"prompt": captions[i], **fits[i].to_json(), **video.passes[k].to_json()},
                        pixel_aspect=fits[i].pixel_aspect,
                    )
                    results[i] = lifted(scene, images[i], fits[i], self._resolution, name=names[i])
                except ValueError as error:
                    results[i] = Failure(name=names[i], reason=str(error))
        return [results[i] for i in range(len(images))]

    def _fit(self, image: ImageInput, name: str) -> Fit:
        info, base = self._pipeline.adapter_info, (self._preset.height, self._preset.width)
        rule = "fixed" if info is None else info.size
        return fit_image(upright_size(image, name=name), base, size=self._size, rule=rule)


def scene_from_video(
    rgb: np.ndarray,
    pointmaps: np.ndarray,
    *,
    fps: float,
    name: str,
    provenance: dict[str, Any],
    pixel_aspect: float = 1.0,
) -> Scene4D:
    """Recover cameras and depth from generated point maps [T, H, W, 3] and put them together with `rgb` [T, H, W, 3].

    `pixel_aspect` is fx / fy of the camera (see `Fit.pixel_aspect`). Confidence falls with the distance between a
    generated point and the one on its pixel's ray, relative to depth.

    Raises:
        ValueError: if the point maps admit no cameras (see `recover_cameras`).
    """
    found = recover_cameras(pointmaps, pixel_aspect=pixel_aspect)
    poses = invert_pose(found.camera_to_world[0]) @ found.camera_to_world
    poses[0] = np.eye(4, dtype=poses.dtype)
    confidence = ray_agreement(pointmaps, found.depth, found.intrinsics, found.camera_to_world)
    return Scene4D(
        rgb=rgb,
        depth=found.depth,
        intrinsics=found.intrinsics,
        camera_to_world=poses,
        confidence=confidence,
        fps=fps,
        name=name,
        provenance=provenance | {"recovery_rmse": found.rmse},
    )


def ray_agreement(
    pointmaps: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, camera_to_world: np.ndarray
) -> np.ndarray:
    """exp(-(distance of point and ray point / 10 % of depth)^2), 0 where there is no depth; [T, H, W] float32."""
    from fourdnex.geometry.cameras import unproject

    distance = np.linalg.norm(unproject(depth, intrinsics, camera_to_world) - pointmaps, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = np.exp(-np.square(distance / (0.1 * depth)))
    return np.nan_to_num(agreement, nan=0.0).astype(np.float32)


def _name(image: ImageInput, number: int) -> str:
    return Path(image).stem if isinstance(image, (str, Path)) else f"image-{number:04d}"


def _of_one_size(pixels: dict[int, np.ndarray]) -> list[list[int]]:
    """Numbers of the images that can share a forward pass."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, fitted in pixels.items():
        groups.setdefault(fitted.shape, []).append(number)
    return list(groups.values())


def _start(
    first_frame_geometry: list[Start] | Annotator, number: int, fitted: np.ndarray, fit: Fit, name: str
) -> np.ndarray:
    if isinstance(first_frame_geometry, list):
        return read_first_pointmap(first_frame_geometry[number], fit, name=name)
    return annotated_first_pointmap(first_frame_geometry, fitted, name=name, pixel_aspect=fit.pixel_aspect)


def _captions(prompts: Sequence[str] | str | None, count: int) -> list[str]:
    if prompts is None:
        return [DEFAULT_PROMPT] * count
    if isinstance(prompts, str):
        return [prompts] * count
    if len(prompts) != count:
        raise ValueError(f"prompts: expected one for each of {count} images, got {len(prompts)}")
    return list(prompts)
