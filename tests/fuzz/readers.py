"""The readers that are fuzzed, and the kind of mutation for each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fourdnex.scene import Scene4D
from tests.fuzz import mutations as m
from tests.fuzz import valid_files as files
from tests.fuzz.valid_files import CAPTIONS_10M, HEIGHT, MONST3R, NPZ_10M, NUM_FRAMES, WIDTH


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader and how it is fuzzed."""

    make: Callable[[Path], Path]
    """Writes a valid file into an empty folder, see `valid_files`; returns the file to mutate."""
    read: m.Read
    """Reads the file completely."""
    mutate: m.Mutate = m.mutate_bytes_or_header
    after: Callable[[Path], None] = lambda file: None
    """Called with the mutated file, to update what depends on it."""
    named: bool = True
    """Whether error messages contain the name of the file."""
    weight: float = 1.0
    """Number of cases, relative to other readers: less for slow readers."""


def read_npz(file: Path) -> None:
    """Read the arrays of `npz`."""
    from fourdnex.io.numpy_files import read_npz

    read_npz(file, ("a", "b"))


def read_pickled_npz(file: Path) -> None:
    """Read the arrays of `pickled_npz`."""
    from fourdnex.io.numpy_files import read_npz

    read_npz(file, ("a", "b"), pickled=True)


def read_npy(file: Path) -> None:
    """Read the array of `npy`."""
    from fourdnex.io.numpy_files import read_npy

    read_npy(file)


def read_first_pointmap(file: Path) -> None:
    """Read the first-frame point map of `first_pointmap`."""
    from fourdnex.generation.pointmap_files import read_first_pointmap
    from fourdnex.model.sizes import fit_image

    read_first_pointmap(file, fit_image((HEIGHT, WIDTH), (HEIGHT, WIDTH), size="base"), name="a")


def read_scene(file: Path) -> None:
    """Read a whole scene by one of its files."""
    loaded = Scene4D.load(file.parent)
    loaded.points(0)


def read_one_frame(file: Path) -> None:
    """Read one frame of a scene by one of its files; IndexError is a documented error."""
    try:
        Scene4D.load(file.parent, frame=1)
    except IndexError as error:
        raise ValueError(str(error)) from error


def update_digest(file: Path) -> None:
    """Update the SHA-256 of a scene's file in scene.json."""
    from fourdnex.io.files import sha256_file

    index = file.with_name("scene.json")
    content = json.loads(index.read_text())
    content["sha256"][file.name] = sha256_file(file)
    index.write_text(json.dumps(content))


def read_lossless(file: Path) -> None:
    """Read all frames."""
    from fourdnex.io.lossless_video import read_lossless

    read_lossless(file)


def read_provenance(file: Path) -> None:
    """Check whether a scene is up to date, as a pass over a collection does; a damaged scene is not."""
    from fourdnex.generation.scene_folders import is_finished

    is_finished(file.parent, {"image_sha256": "0" * 64})


def read_tracks(file: Path) -> None:
    """Read tracks."""
    from fourdnex.tracks.files import read_tracks

    read_tracks(file)


def read_collection(file: Path) -> None:
    """Read the records, as a pass over the collection does."""
    from fourdnex.generation import collection_records as records

    image = records.CollectionImage(path=Path("a.jpg"), file="a.jpg", scene="a", made_with={"image_sha256": "a" * 64})
    records.check_same_collection(file.parent, [image], records.read_listed(file.parent))


def read_failed(file: Path) -> None:
    """Read the records of failures."""
    from fourdnex.generation.collection_records import read_failed

    read_failed(file.parent)


def read_adapter(file: Path) -> None:
    """Read metadata and weights of an adapter."""
    from fourdnex.model.adapter_files import adapter_digest, read_adapter_info, read_adapter_state

    info = read_adapter_info(file.parent)
    adapter_digest(file.parent, info)
    read_adapter_state(file.parent, info.fusion)


def read_data(file: Path) -> None:
    """Read all clips of a data set, each on its own; a damaged clip is a documented error."""
    from fourdnex.datasets.shards import SourceShard

    folder = file.parent if file.suffix == ".parquet" else file.parents[1]
    shard = SourceShard(folder, "worlds-0000")
    for name in shard.names:
        shard.read(name)


def read_annotated(file: Path) -> None:
    """Read all clips of an annotated shard."""
    from fourdnex.datasets.annotated import iter_annotated

    for each in iter_annotated(file.parent, "worlds-0000"):
        each.annotated_pointmaps()


def read_latents(file: Path) -> None:
    """Read summary, failures and all clips of latents."""
    from fourdnex.latents.dataset import LatentClips
    from fourdnex.latents.shards import shard_failures

    clips = LatentClips(file.parent)
    shard_failures(file.parent, "s")
    for bucket in clips.buckets:
        for index in bucket.indices:
            clips[index]


def read_camera_path(file: Path) -> None:
    """Read cameras for a scene of 24 x 16 pixels."""
    from fourdnex.rendering.camera_files import load_path

    load_path(file, intrinsics=files.scene().intrinsics, height=HEIGHT, width=WIDTH)


def read_captions(file: Path) -> None:
    """Find the captions of three images; the error of a text file is recorded, not raised."""
    from fourdnex.generation.captions import find_captions

    found = find_captions(file.parent, [file.with_name(f"{letter}.jpg") for letter in "abc"])
    for error in found.errors.values():
        raise ValueError(error)


def read_image(file: Path) -> None:
    """Read size, thumbnail and center crop of an image."""
    from fourdnex.io.images import read_image, read_thumbnail, upright_size

    upright_size(file)
    read_thumbnail(file, 16)
    read_image(file, height=16, width=16)


def read_video(file: Path) -> None:
    """Read all frames of a video."""
    from fourdnex.io.video import read_video

    read_video(file)


def read_10m(file: Path) -> None:
    """Read all clips of a 4DNeX-10M folder."""
    from fourdnex.datasets.fourdnex10m import iter_clips

    root = next(parent for parent in file.parents if parent.name == "data").parent
    for each in iter_clips(root):
        assert each.num_frames == NUM_FRAMES


def read_geometry(file: Path) -> None:
    """Read the geometry of all frames that another tool has estimated."""
    from fourdnex.annotation.geometry_formats import open_geometry

    root = next(parent for parent in file.parents if parent.name == "geometry")
    video = open_geometry(root, "a")
    for field in ("depth", "confidence", "dynamic_mask", "image"):
        if video is not None and (read := getattr(video, field)) is not None:
            for index in range(len(video.frames)):
                read(index)


def read_exr(file: Path) -> None:
    """Read a channel of an OpenEXR image."""
    from fourdnex.io.exr import read_exr_channel

    read_exr_channel(file.read_bytes(), "Z", name=str(file))


def read_spec(file: Path) -> None:
    """Read an ablation, and the settings of its variants."""
    from fourdnex.ablation.spec import read_spec

    spec = read_spec(file)
    for variant in spec.variants:
        spec.settings_of(variant)


def read_base(file: Path) -> None:
    """Find the preset of a base folder."""
    from fourdnex.model.presets import get_preset

    get_preset(file.parents[1])


SCENE_JSON = Reader(make=files.scene_file("scene.json"), read=read_scene, mutate=m.mutate_json, named=False, weight=0.3)
ADAPTER = Reader(make=files.adapter_file("pytorch_lora_weights.safetensors"), read=read_adapter,
                 mutate=m.mutate_safetensors)  # fmt: skip
IMAGE = Reader(make=files.image("a.png"), read=read_image, weight=0.7)
CAPTIONS = Reader(make=files.captions("captions.csv"), read=read_captions, mutate=m.mutate_bytes)
TEN_M = Reader(make=files.ten_m_file(NPZ_10M), read=read_10m, named=False, weight=0.3)

GEOMETRY = Reader(make=files.geometry_file("vggt", "a/predictions.npz"), read=read_geometry, named=False)

READERS: dict[str, Reader] = {
    "exr": Reader(make=files.exr, read=read_exr),
    "vggt": GEOMETRY,
    "megasam": replace(GEOMETRY, make=files.geometry_file("megasam", "a_sgd_cvd_hr.npz"), mutate=m.mutate_zip),
    "monst3r": replace(GEOMETRY, make=files.geometry_file("monst3r", "a/pred_traj.txt"), mutate=m.mutate_bytes),
    "vipe-pose": replace(GEOMETRY, make=files.geometry_file("vipe", "pose/a.npz")),
    "vipe-depth": replace(GEOMETRY, make=files.geometry_file("vipe", "depth/a.zip"), mutate=m.mutate_zip),
    "spatialvid": replace(GEOMETRY, make=files.geometry_file("spatialvid", "annotations/group_0001/a/indexes.txt"),
                          mutate=m.mutate_bytes),
    "nerfstudio": replace(GEOMETRY, make=files.geometry_file("nerfstudio", "a/transforms.json"),
                          mutate=m.mutate_json),
    "nerfstudio-depth": replace(GEOMETRY, make=files.geometry_file("nerfstudio", "a/depth/frame_0001.png"),
                                mutate=m.mutate_png),
    "colmap-images": replace(GEOMETRY, make=files.geometry_file("colmap", "a/sparse/0/images.bin"),
                             mutate=m.mutate_bytes),
    "colmap-cameras": replace(GEOMETRY, make=files.geometry_file("colmap", "a/sparse/0/cameras.bin"),
                              mutate=m.mutate_bytes),
    "npy": Reader(make=files.npy, read=read_npy),
    "npz": Reader(make=files.npz, read=read_npz),
    "npz-members": Reader(make=files.npz, read=read_npz, mutate=m.mutate_zip),
    "npz-pickled": Reader(make=files.pickled_npz, read=read_pickled_npz, mutate=m.mutate_zip),
    "first-pointmap": Reader(make=files.first_pointmap, read=read_first_pointmap),
    "scene.json": SCENE_JSON,
    "scene.json-version-1": replace(SCENE_JSON, make=files.version_1),
    "scene.json-one-frame": replace(SCENE_JSON, read=read_one_frame),
    "cameras.json": replace(SCENE_JSON, make=files.scene_file("cameras.json"), after=update_digest),
    "scene.json-provenance": replace(SCENE_JSON, read=read_provenance, weight=1.0),
    "rgb.mkv": Reader(make=files.scene_file("rgb.mkv"), read=read_lossless),
    "depth.mkv": Reader(make=files.scene_file("depth.mkv"), read=read_lossless),
    "depth.mkv-in-scene": replace(SCENE_JSON, make=files.scene_file("depth.mkv"), after=update_digest,
                                  mutate=m.mutate_bytes_or_header),
    "depth.mkv-one-frame": replace(SCENE_JSON, make=files.scene_file("depth.mkv"), read=read_one_frame,
                                   mutate=m.mutate_bytes_or_header),
    "tracks": Reader(make=files.scene_file("tracks.safetensors"), read=read_tracks, mutate=m.mutate_safetensors),
    "tracks-deflated": Reader(
        make=files.scene_file("tracks.safetensors"), read=read_tracks, mutate=m.mutate_deflated_safetensors
    ),
    "collection.json": Reader(make=files.collection, read=read_collection, mutate=m.mutate_json, named=False),
    "failed.json": Reader(make=files.failed, read=read_failed, mutate=m.mutate_json),
    "adapter.json": replace(ADAPTER, make=files.adapter_file("adapter.json"), mutate=m.mutate_json, named=False),
    "adapter-lora": ADAPTER,
    "adapter-domain": replace(ADAPTER, make=files.adapter_file("learnable_domain_embeddings.safetensors")),
    "reference-lora": replace(ADAPTER, make=files.reference_file("pytorch_lora_weights.safetensors")),
    "reference-domain": replace(ADAPTER, make=files.reference_file("learnable_domain_embeddings.pt"),
                                mutate=m.mutate_bytes),
    "wan-lora": replace(ADAPTER, make=files.wan_lora),
    "manifest": Reader(make=files.data_file("manifest.parquet"), read=read_data, weight=0.3, named=False),
    "shard": Reader(make=files.data_file("shards/worlds-0000.tar"), read=read_data, weight=0.3),
    "annotated-table": Reader(make=files.annotated_file("worlds-0000.parquet"), read=read_annotated, named=False),
    "annotated-arrays": Reader(make=files.annotated_file("worlds-0000.safetensors"), read=read_annotated,
                               mutate=m.mutate_safetensors, named=False),
    "latents": Reader(make=files.latents_file("s.safetensors"), read=read_latents, mutate=m.mutate_safetensors,
                      named=False),
    "latents-table": Reader(make=files.latents_file("s.parquet"), read=read_latents, named=False),
    "statistics.json": Reader(make=files.latents_file("statistics.json"), read=read_latents, mutate=m.mutate_json,
                              named=False),
    "transforms.json": Reader(make=files.transforms, read=read_camera_path, mutate=m.mutate_json, named=False),
    "camera-path": Reader(make=files.viewer_path, read=read_camera_path, mutate=m.mutate_json, named=False),
    "captions.csv": CAPTIONS,
    "captions.jsonl": replace(CAPTIONS, make=files.captions("captions.jsonl"), mutate=m.mutate_json_lines),
    "caption.txt": replace(CAPTIONS, make=files.captions("a.txt")),
    "image.png": IMAGE,
    "image.png-chunks": replace(IMAGE, mutate=m.mutate_png),
    "image-16-bit.png": replace(IMAGE, make=files.sixteen_bit_png, mutate=m.mutate_png),
    "image.jpg": replace(IMAGE, make=files.image("a.jpg")),
    "image.webp": replace(IMAGE, make=files.image("a.webp", lossless=True)),
    "image.tif": replace(IMAGE, make=files.image("a.tif", compression="tiff_lzw")),
    "image.gif": replace(IMAGE, make=files.image("a.gif")),
    "image.bmp": replace(IMAGE, make=files.image("a.bmp")),
    "image.ppm": replace(IMAGE, make=files.image("a.ppm")),
    "video.mkv": Reader(make=files.video, read=read_video),
    "video.mp4": Reader(make=files.mp4, read=read_video),
    "10m-npz": TEN_M,
    "10m-depth": replace(TEN_M, make=files.ten_m_file(f"{MONST3R}/frame_0001.npy")),
    "10m-trajectory": replace(TEN_M, make=files.ten_m_file(f"{MONST3R}/pred_traj.txt"), mutate=m.mutate_bytes),
    "10m-intrinsics": replace(TEN_M, make=files.ten_m_file(f"{MONST3R}/pred_intrinsics.txt"), mutate=m.mutate_bytes),
    "10m-mask": replace(TEN_M, make=files.ten_m_file(f"{MONST3R}/dynamic_mask_1.png")),
    "10m-captions": replace(TEN_M, make=files.ten_m_file(CAPTIONS_10M), mutate=m.mutate_bytes),
    "10m-video": replace(TEN_M, make=files.ten_m_file("data/raw/dynamic/dynamic_1/00012.mp4")),
    "ablation": Reader(make=files.spec, read=read_spec, mutate=m.mutate_json, named=False),
    "base": Reader(make=files.base, read=read_base, mutate=m.mutate_json, named=False),
}  # fmt: skip
