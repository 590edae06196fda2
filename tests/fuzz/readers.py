"""The readers that are fuzzed, each with a small valid file."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.scene import Scene4D
from fourdnex.tracks import Tracks
from tests.fuzz import mutations as m

HEIGHT, WIDTH, NUM_FRAMES = 16, 24, 3
_RNG_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader and how it is fuzzed."""

    make: Callable[[Path], Path]
    """Writes a valid file into an empty folder, with all that belongs to it; returns the file to mutate."""
    read: m.Read
    """Reads the file completely."""
    mutate: m.Mutate = m.mutate_bytes_or_header
    after: Callable[[Path], None] = lambda file: None
    """Called with the mutated file, to update what depends on it."""
    named: bool = True
    """Whether error messages contain the name of the file."""
    weight: float = 1.0
    """Number of cases, relative to other readers: less for slow readers."""


def scene() -> Scene4D:
    """A scene with all optional fields."""
    rng = np.random.default_rng(_RNG_SEED)
    frames = (NUM_FRAMES, HEIGHT, WIDTH)
    depth = rng.uniform(1, 5, frames).astype(np.float32)
    depth[0, :2] = np.nan
    first = np.array([0, 0, 1])
    positions = rng.normal(size=(3, NUM_FRAMES, 3))
    positions[2, 0] = np.nan
    return Scene4D(
        rgb=rng.integers(0, 255, (*frames, 3), np.uint8),
        depth=depth,
        intrinsics=np.array([[20.0, 0, 11.5], [0, 20, 7.5], [0, 0, 1]]),
        camera_to_world=np.tile(np.eye(4), (NUM_FRAMES, 1, 1)),
        confidence=rng.random(frames),
        origin=rng.integers(0, 3, frames, np.uint8),
        tracks=Tracks(
            positions=positions,
            visible=np.arange(NUM_FRAMES) >= first[:, None],
            first_frame=first,
            pixel=np.array([[0, 1], [2, 3], [4, 5]]),
            rgb=rng.integers(0, 255, (3, 3), np.uint8),
            moves=np.array([True, False, True]),
        ),
        provenance={"image": "a.jpg", "image_sha256": "0" * 64, "model": "tiny"},
        name="a",
    )


def clip(name: str = "world-1") -> Clip:
    """An annotated clip."""
    source = scene()
    return Clip(
        name=name,
        rgb=source.rgb,
        caption="A box.",
        tags=("a", "b"),
        annotator="exact",
        depth=source.depth,
        intrinsics=source.intrinsics,
        camera_to_world=source.camera_to_world,
        confidence=source.confidence,
        dynamic_mask=source.depth > 2,
    )


def make_npy(folder: Path) -> Path:
    """An array."""
    np.save(folder / "a.npy", np.arange(24, dtype=np.float32).reshape(2, 4, 3))
    return folder / "a.npy"


def make_npz(folder: Path) -> Path:
    """Two compressed arrays."""
    np.savez_compressed(folder / "a.npz", a=np.arange(24.0).reshape(2, 4, 3), b=np.eye(4, dtype=np.float16))
    return folder / "a.npz"


def make_pickled_npz(folder: Path) -> Path:
    """Two arrays in a pickled dict."""
    content = {"a": np.arange(24.0).reshape(2, 4, 3), "b": np.eye(4, dtype=np.float16), "c": [1, "x", np.float32(2)]}
    np.savez(folder / "a.npz", data=np.array(content, dtype=object))
    return folder / "a.npz"


def read_npz(file: Path) -> None:
    """Read the arrays of `make_npz`."""
    from fourdnex.io.numpy_files import read_npz

    read_npz(file, ("a", "b"))


def read_pickled_npz(file: Path) -> None:
    """Read the arrays of `make_pickled_npz`."""
    from fourdnex.io.numpy_files import read_npz

    read_npz(file, ("a", "b"), pickled=True)


def read_npy(file: Path) -> None:
    """Read the array of `make_npy`."""
    from fourdnex.io.numpy_files import read_npy

    read_npy(file)


def make_first_pointmap(folder: Path) -> Path:
    """Depth of the first frame."""
    np.save(folder / "a.npy", np.nan_to_num(scene().depth[0], nan=0.0))
    return folder / "a.npy"


def read_first_pointmap(file: Path) -> None:
    """Read the first-frame point map of `make_first_pointmap`."""
    from fourdnex.generation.pointmap_files import read_first_pointmap
    from fourdnex.model.sizes import fit_image

    read_first_pointmap(file, fit_image((HEIGHT, WIDTH), (HEIGHT, WIDTH), size="base"), name="a")


def make_scene_file(name: str) -> Callable[[Path], Path]:
    """A scene; returns one of its files."""

    def make(folder: Path) -> Path:
        scene().save(folder / "scene")
        return folder / "scene" / name

    return make


def make_version_1(folder: Path) -> Path:
    """A scene without tracks, checksums of images and a number of depth codes."""
    file = make_scene_file("scene.json")(folder)
    content = json.loads(file.read_text())
    content["schema_version"] = 1
    del content["crc32"], content["depth"]["codes"], content["sha256"]["tracks.safetensors"]
    file.write_text(json.dumps(content))
    return file


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


def read_tracks(file: Path) -> None:
    """Read tracks."""
    from fourdnex.tracks.files import read_tracks

    read_tracks(file)


def make_collection(folder: Path) -> Path:
    """Records of two images."""
    entries = [{"file": f"{name}.jpg", "scene": name, "image_sha256": name * 64} for name in "ab"]
    content = {"name": "scenes", "source": "/images", "images": entries}
    (folder / "collection.json").write_text(json.dumps(content))
    return folder / "collection.json"


def read_collection(file: Path) -> None:
    """Read the records, as a pass over the collection does."""
    from fourdnex.generation import collection_records as records

    image = records.CollectionImage(path=Path("a.jpg"), file="a.jpg", scene="a", made_with={"image_sha256": "a" * 64})
    records.check_same_collection(file.parent, [image], records.read_listed(file.parent))


def make_failed(folder: Path) -> Path:
    """Records of two failures."""
    (folder / "failed.json").write_text(json.dumps([{"file": f"{name}.txt", "reason": "no image"} for name in "ab"]))
    return folder / "failed.json"


def read_failed(file: Path) -> None:
    """Read the records of failures."""
    from fourdnex.generation.collection_records import read_failed

    read_failed(file.parent)


def lora_state() -> dict[str, Any]:
    """LoRA matrices of rank 2 of two layers, with the keys of diffusers."""
    import torch

    generator = torch.Generator().manual_seed(_RNG_SEED)
    state = {}
    for layer in ("blocks.0.attn1.to_q", "blocks.0.attn1.to_v"):
        state[f"{layer}.lora_A.weight"] = torch.randn(2, 4, generator=generator)
        state[f"{layer}.lora_B.weight"] = torch.randn(4, 2, generator=generator)
    return state


def make_adapter_file(name: str) -> Callable[[Path], Path]:
    """An adapter; returns one of its files."""

    def make(folder: Path) -> Path:
        import torch

        from fourdnex.model.adapter_files import AdapterInfo, save_adapter
        from fourdnex.model.fusion import DOMAIN_KEY

        save_adapter(folder / "adapter", lora_state() | {DOMAIN_KEY: torch.randn(2, 4)}, AdapterInfo(rank=2, alpha=2.0))
        return folder / "adapter" / name

    return make


def make_reference_file(name: str) -> Callable[[Path], Path]:
    """The reference implementation's pair of files; returns one of them."""

    def make(folder: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        header = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 2})}
        state = {f"transformer.{key}": value for key, value in lora_state().items()}
        save_file(state, folder / "pytorch_lora_weights.safetensors", header)
        torch.save(torch.randn(2, 4), folder / "learnable_domain_embeddings.pt")
        return folder / name

    return make


def make_wan_lora(folder: Path) -> Path:
    """LoRA matrices with Wan's names and alphas, beside the reference implementation's domain embeddings."""
    import torch
    from safetensors.torch import save_file

    make_reference_file("")(folder)
    state = {}
    for layer in ("blocks.0.self_attn.q", "blocks.0.ffn.0"):
        state[f"diffusion_model.{layer}.lora_down.weight"] = torch.ones(2, 4)
        state[f"diffusion_model.{layer}.lora_up.weight"] = torch.ones(4, 2)
        state[f"diffusion_model.{layer}.alpha"] = torch.tensor(1.0)
    save_file(state, folder / "pytorch_lora_weights.safetensors")
    return folder / "pytorch_lora_weights.safetensors"


def read_adapter(file: Path) -> None:
    """Read metadata and weights of an adapter."""
    from fourdnex.model.adapter_files import adapter_digest, read_adapter_info, read_adapter_state

    info = read_adapter_info(file.parent)
    adapter_digest(file.parent, info)
    read_adapter_state(file.parent, info.fusion)


def make_data_file(name: str) -> Callable[[Path], Path]:
    """A data set of two clips; returns one of its files."""

    def make(folder: Path) -> Path:
        from fourdnex.datasets.manifest import write_manifest
        from fourdnex.datasets.shards import write_shard

        write_manifest(folder, write_shard(folder, "worlds-0000", [clip("world-1"), clip("world-2")]))
        return folder / name

    return make


def read_data(file: Path) -> None:
    """Read all clips of a data set, each on its own; a damaged clip is a documented error."""
    from fourdnex.datasets.shards import SourceShard

    folder = file.parent if file.suffix == ".parquet" else file.parents[1]
    shard = SourceShard(folder, "worlds-0000")
    for name in shard.names:
        shard.read(name)


def make_annotated_file(name: str) -> Callable[[Path], Path]:
    """An annotated shard of two clips; returns one of its files."""

    def make(folder: Path) -> Path:
        from fourdnex.datasets.annotated import COLUMNS, clip_arrays, save_arrays, write_annotated

        rows, arrays = [], {}
        for each in (clip("world-1"), clip("world-2")):
            arrays[each.name] = folder / f"{each.name}.arrays"
            save_arrays(arrays[each.name], each.name, clip_arrays(each))
            known = {"name": each.name, "tags": each.tags, "num_frames": NUM_FRAMES, "height": HEIGHT, "width": WIDTH}
            rows.append(dict.fromkeys(COLUMNS, "") | known | {"fps": 24.0, "seconds": 1.0})
        write_annotated(folder, "worlds-0000", rows, arrays)
        return folder / name

    return make


def read_annotated(file: Path) -> None:
    """Read all clips of an annotated shard."""
    from fourdnex.datasets.annotated import iter_annotated

    for each in iter_annotated(file.parent, "worlds-0000"):
        each.annotated_pointmaps()


def make_latents_file(name: str) -> Callable[[Path], Path]:
    """A latent shard of two clips and its statistics; returns one of the files."""

    def make(folder: Path) -> Path:
        import pandas as pd
        import torch

        from fourdnex.latents.shards import LatentEncoding, estimate_statistics, write_latent_shard

        tensors = {"plane": torch.randn(16, 1, 2, 2)}
        for name_ in ("a", "b"):
            tensors |= {f"{name_}/{key}": torch.randn(16, 1, 2, 2) for key in ("rgb", "xyz", "condition")}
            tensors |= {f"{name_}/text": torch.randn(3, 4), f"{name_}/image": torch.randn(2, 4)}
        columns = ("center_x", "center_y", "center_z", "scale", "valid_share")
        table = pd.DataFrame({"name": ["a", "b"], **{column: [1.0, 2.0] for column in columns}})
        write_latent_shard(folder, "s", tensors, table, "f" * 16, LatentEncoding(), failed=[("c", "too dark")])
        estimate_statistics(folder)
        return folder / name

    return make


def read_latents(file: Path) -> None:
    """Read summary, failures and all clips of latents."""
    from fourdnex.latents.dataset import LatentClips
    from fourdnex.latents.shards import shard_failures

    clips = LatentClips(file.parent)
    shard_failures(file.parent, "s")
    for bucket in clips.buckets:
        for index in bucket.indices:
            clips[index]


def make_transforms(folder: Path) -> Path:
    """A transforms.json with most fields."""
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    frame = {"transform_matrix": pose.tolist(), "fl_x": 20.0, "time": 0.5}
    fields = {"fl_x": 20, "cx": 12.0, "w": 24, "h": 16, "fps": 24, "camera_model": "OPENCV", "k1": 0.0,
              "axes": "OpenGL", "applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 0.5}  # fmt: skip
    (folder / "path.json").write_text(json.dumps({**fields, "frames": [frame, {"transform_matrix": pose.tolist()}]}))
    return folder / "path.json"


def make_viewer_path(folder: Path) -> Path:
    """A camera path of nerfstudio's viewer."""
    camera = {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 50, "render_time": 0.25, "aspect": 1.5}
    content = {"camera_path": [camera, camera], "seconds": 2, "camera_type": "perspective"}
    (folder / "path.json").write_text(json.dumps(content))
    return folder / "path.json"


def read_camera_path(file: Path) -> None:
    """Read cameras for a scene of 24 x 16 pixels."""
    from fourdnex.rendering.camera_files import load_path

    load_path(file, intrinsics=scene().intrinsics, height=HEIGHT, width=WIDTH)


def make_captions(name: str) -> Callable[[Path], Path]:
    """A table of captions, or a caption beside an image."""

    def make(folder: Path) -> Path:
        rows = [{"image": f"{letter}.jpg", "prompt": f'A "{letter}", red.'} for letter in "abc"]
        if name.endswith(".csv"):
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, ["image", "prompt"])
            writer.writeheader()
            writer.writerows(rows)
            (folder / name).write_text(text.getvalue())
        else:
            lines = [json.dumps(row) for row in rows] if name.endswith(".jsonl") else ["A cup."]
            (folder / name).write_text("\n".join(lines) + "\n")
        return folder / name

    return make


def read_captions(file: Path) -> None:
    """Find the captions of three images; the error of a text file is recorded, not raised."""
    from fourdnex.generation.captions import find_captions

    found = find_captions(file.parent, [file.with_name(f"{letter}.jpg") for letter in "abc"])
    for error in found.errors.values():
        raise ValueError(error)


def make_image(name: str, **options: Any) -> Callable[[Path], Path]:
    """An image with EXIF data and a color profile where the format has them."""

    def make(folder: Path) -> Path:
        from PIL import Image, ImageCms

        exif = Image.Exif()
        exif[0x0112] = 6
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        extra = {"exif": exif, "icc_profile": profile} if name.endswith((".jpg", ".png", ".webp", ".tif")) else {}
        Image.fromarray(scene().rgb[0]).save(folder / name, **extra, **options)
        return folder / name

    return make


def make_16_bit_png(folder: Path) -> Path:
    """A PNG with 16 bits per channel."""
    import cv2

    cv2.imwrite(str(folder / "a.png"), scene().rgb[0].astype(np.uint16) * 257)
    return folder / "a.png"


def read_image(file: Path) -> None:
    """Read size, thumbnail and center crop of an image."""
    from fourdnex.io.images import read_image, read_thumbnail, upright_size

    upright_size(file)
    read_thumbnail(file, 16)
    read_image(file, height=16, width=16)


def make_video(folder: Path) -> Path:
    """An H.264 video."""
    from fourdnex.io.video import write_video

    write_video(folder / "a.mkv", scene().rgb, fps=24)
    return folder / "a.mkv"


def make_mp4(folder: Path) -> Path:
    """An MPEG-4 video."""
    import av

    with av.open(str(folder / "a.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in scene().rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder / "a.mp4"


def read_video(file: Path) -> None:
    """Read all frames of a video."""
    from fourdnex.io.video import read_video

    read_video(file)


_NPZ_10M = "data/dynamic/dynamic_3/00012/frame_00000-frame_00002.npz"
_MONST3R = "data/dynamic/dynamic_1/00012/00012_0-2"
_CAPTIONS_10M = "data/caption/dynamic_1_with_caption_upload.csv"


def make_10m_file(name: str) -> Callable[[Path], Path]:
    """A 4DNeX-10M folder with a MegaSaM and a MonST3R clip; returns one of its files."""

    def make(folder: Path) -> Path:
        from PIL import Image

        source = scene()
        poses = source.camera_to_world
        archive, monst3r, captions = folder / _NPZ_10M, folder / _MONST3R, folder / _CAPTIONS_10M
        for path in (archive.parent, monst3r, captions.parent, folder / "data/raw/dynamic/dynamic_1"):
            path.mkdir(parents=True)
        np.savez(archive, images=source.rgb, depths=source.depth, intrinsic=source.intrinsics, cam_c2w=poses)
        for t in range(NUM_FRAMES):
            np.save(monst3r / f"frame_{t:04d}.npy", source.depth[t])
            Image.fromarray(source.depth[t] > 2).convert("L").save(monst3r / f"dynamic_mask_{t}.png")
        np.savetxt(monst3r / "pred_traj.txt", [[t, 0, 0, t, 1, 0, 0, 0] for t in range(NUM_FRAMES)], "%.6f")
        np.savetxt(monst3r / "pred_intrinsics.txt", np.tile(source.intrinsics.reshape(1, 9), (NUM_FRAMES, 1)))
        captions.write_text('number,caption\n00012,"A box, red."\n')
        make_mp4(folder).rename(folder / "data/raw/dynamic/dynamic_1/00012.mp4")
        return folder / name

    return make


def read_10m(file: Path) -> None:
    """Read all clips of a 4DNeX-10M folder."""
    from fourdnex.datasets.fourdnex10m import iter_clips

    root = next(parent for parent in file.parents if parent.name == "data").parent
    for each in iter_clips(root):
        assert each.num_frames == NUM_FRAMES


def make_spec(folder: Path) -> Path:
    """An ablation of two variants."""
    variants = {"plain": {}, "shifted": {"sigma_shift": 2.0, "fusion": "width"}}
    content = {"name": "shift", "variants": variants, "settings": {"rank": 3, "targets": ["to_q"]}}
    (folder / "spec.json").write_text(json.dumps(content))
    return folder / "spec.json"


def read_spec(file: Path) -> None:
    """Read an ablation, and the settings of its variants."""
    from fourdnex.ablation.spec import read_spec

    spec = read_spec(file)
    for variant in spec.variants:
        spec.settings_of(variant)


def make_base(folder: Path) -> Path:
    """The configuration of a base, without weights."""
    (folder / "transformer").mkdir()
    (folder / "model_index.json").write_text("{}")
    (folder / "transformer" / "config.json").write_text(
        json.dumps({"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 1})
    )
    return folder / "transformer" / "config.json"


def read_base(file: Path) -> None:
    """Find the preset of a base folder."""
    from fourdnex.model.presets import get_preset

    get_preset(file.parents[1])


SCENE_JSON = Reader(make=make_scene_file("scene.json"), read=read_scene, mutate=m.mutate_json, named=False, weight=0.3)
ADAPTER = Reader(make=make_adapter_file("pytorch_lora_weights.safetensors"), read=read_adapter,
                 mutate=m.mutate_safetensors)  # fmt: skip
IMAGE = Reader(make=make_image("a.png"), read=read_image, weight=0.7)
CAPTIONS = Reader(make=make_captions("captions.csv"), read=read_captions, mutate=m.mutate_bytes)
TEN_M = Reader(make=make_10m_file(_NPZ_10M), read=read_10m, named=False, weight=0.3)

READERS: dict[str, Reader] = {
    "npy": Reader(make=make_npy, read=read_npy),
    "npz": Reader(make=make_npz, read=read_npz),
    "npz-pickled": Reader(make=make_pickled_npz, read=read_pickled_npz, mutate=m.mutate_bytes),
    "first-pointmap": Reader(make=make_first_pointmap, read=read_first_pointmap),
    "scene.json": SCENE_JSON,
    "scene.json-version-1": replace(SCENE_JSON, make=make_version_1),
    "scene.json-one-frame": replace(SCENE_JSON, read=read_one_frame),
    "cameras.json": replace(SCENE_JSON, make=make_scene_file("cameras.json"), after=update_digest),
    "rgb.mkv": Reader(make=make_scene_file("rgb.mkv"), read=read_lossless),
    "depth.mkv": Reader(make=make_scene_file("depth.mkv"), read=read_lossless),
    "depth.mkv-in-scene": replace(SCENE_JSON, make=make_scene_file("depth.mkv"), after=update_digest,
                                  mutate=m.mutate_bytes_or_header),
    "depth.mkv-one-frame": replace(SCENE_JSON, make=make_scene_file("depth.mkv"), read=read_one_frame,
                                   mutate=m.mutate_bytes_or_header),
    "tracks": Reader(make=make_scene_file("tracks.safetensors"), read=read_tracks, mutate=m.mutate_safetensors),
    "collection.json": Reader(make=make_collection, read=read_collection, mutate=m.mutate_json, named=False),
    "failed.json": Reader(make=make_failed, read=read_failed, mutate=m.mutate_json),
    "adapter.json": replace(ADAPTER, make=make_adapter_file("adapter.json"), mutate=m.mutate_json, named=False),
    "adapter-lora": ADAPTER,
    "adapter-domain": replace(ADAPTER, make=make_adapter_file("learnable_domain_embeddings.safetensors")),
    "reference-lora": replace(ADAPTER, make=make_reference_file("pytorch_lora_weights.safetensors")),
    "reference-domain": replace(ADAPTER, make=make_reference_file("learnable_domain_embeddings.pt"),
                                mutate=m.mutate_bytes),
    "wan-lora": replace(ADAPTER, make=make_wan_lora),
    "manifest": Reader(make=make_data_file("manifest.parquet"), read=read_data, weight=0.3, named=False),
    "shard": Reader(make=make_data_file("shards/worlds-0000.tar"), read=read_data, weight=0.3),
    "annotated-table": Reader(make=make_annotated_file("worlds-0000.parquet"), read=read_annotated, named=False),
    "annotated-arrays": Reader(make=make_annotated_file("worlds-0000.safetensors"), read=read_annotated,
                               mutate=m.mutate_safetensors, named=False),
    "latents": Reader(make=make_latents_file("s.safetensors"), read=read_latents, mutate=m.mutate_safetensors,
                      named=False),
    "latents-table": Reader(make=make_latents_file("s.parquet"), read=read_latents, named=False),
    "statistics.json": Reader(make=make_latents_file("statistics.json"), read=read_latents, mutate=m.mutate_json,
                              named=False),
    "transforms.json": Reader(make=make_transforms, read=read_camera_path, mutate=m.mutate_json, named=False),
    "camera-path": Reader(make=make_viewer_path, read=read_camera_path, mutate=m.mutate_json, named=False),
    "captions.csv": CAPTIONS,
    "captions.jsonl": replace(CAPTIONS, make=make_captions("captions.jsonl"), mutate=m.mutate_json_lines),
    "caption.txt": replace(CAPTIONS, make=make_captions("a.txt")),
    "image.png": IMAGE,
    "image-16-bit.png": replace(IMAGE, make=make_16_bit_png),
    "image.jpg": replace(IMAGE, make=make_image("a.jpg")),
    "image.webp": replace(IMAGE, make=make_image("a.webp", lossless=True)),
    "image.tif": replace(IMAGE, make=make_image("a.tif", compression="tiff_lzw")),
    "image.gif": replace(IMAGE, make=make_image("a.gif")),
    "image.bmp": replace(IMAGE, make=make_image("a.bmp")),
    "image.ppm": replace(IMAGE, make=make_image("a.ppm")),
    "video.mkv": Reader(make=make_video, read=read_video),
    "video.mp4": Reader(make=make_mp4, read=read_video),
    "10m-npz": TEN_M,
    "10m-depth": replace(TEN_M, make=make_10m_file(f"{_MONST3R}/frame_0001.npy")),
    "10m-trajectory": replace(TEN_M, make=make_10m_file(f"{_MONST3R}/pred_traj.txt"), mutate=m.mutate_bytes),
    "10m-intrinsics": replace(TEN_M, make=make_10m_file(f"{_MONST3R}/pred_intrinsics.txt"), mutate=m.mutate_bytes),
    "10m-mask": replace(TEN_M, make=make_10m_file(f"{_MONST3R}/dynamic_mask_1.png")),
    "10m-captions": replace(TEN_M, make=make_10m_file(_CAPTIONS_10M), mutate=m.mutate_bytes),
    "10m-video": replace(TEN_M, make=make_10m_file("data/raw/dynamic/dynamic_1/00012.mp4")),
    "ablation": Reader(make=make_spec, read=read_spec, mutate=m.mutate_json, named=False),
    "base": Reader(make=make_base, read=read_base, mutate=m.mutate_json, named=False),
}  # fmt: skip
