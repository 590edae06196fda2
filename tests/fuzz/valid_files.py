"""Small valid files for fuzzing. Each function writes a file, and all that belongs to it, into an empty folder."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fourdnex.clip import Clip
from fourdnex.scene import Scene4D
from fourdnex.tracks import Tracks

HEIGHT, WIDTH, NUM_FRAMES = 16, 24, 3
SEED = 0


def scene() -> Scene4D:
    """A scene with all optional fields."""
    rng = np.random.default_rng(SEED)
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


def geometry_file(format_: str, name: str) -> Callable[[Path], Path]:
    """A file of geometry by another tool."""
    from tests.annotation.geometry_files import WRITERS, write_colmap

    def make(folder: Path) -> Path:
        root = folder / "geometry"
        root.mkdir()
        (WRITERS | {"colmap": write_colmap})[format_](root, "a", clip())
        return root / name

    return make


def exr(folder: Path) -> Path:
    """An OpenEXR image with two channels."""
    from tests.io.exr_files import exr_bytes

    depth = np.linspace(1, 2, 20 * 24).reshape(20, 24)
    (folder / "a.exr").write_bytes(exr_bytes({"A": depth.astype(np.float32), "Z": depth.astype(np.float16)}))
    return folder / "a.exr"


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


def npy(folder: Path) -> Path:
    """An array."""
    np.save(folder / "a.npy", np.arange(24, dtype=np.float32).reshape(2, 4, 3))
    return folder / "a.npy"


def npz(folder: Path) -> Path:
    """Two compressed arrays."""
    np.savez_compressed(folder / "a.npz", a=np.arange(24.0).reshape(2, 4, 3), b=np.eye(4, dtype=np.float16))
    return folder / "a.npz"


def pickled_npz(folder: Path) -> Path:
    """Two arrays in a pickled dict."""
    content = {"a": np.arange(24.0).reshape(2, 4, 3), "b": np.eye(4, dtype=np.float16), "c": [1, "x", np.float32(2)]}
    np.savez(folder / "a.npz", data=np.array(content, dtype=object))
    return folder / "a.npz"


def first_pointmap(folder: Path) -> Path:
    """Depth of the first frame."""
    np.save(folder / "a.npy", np.nan_to_num(scene().depth[0], nan=0.0))
    return folder / "a.npy"


def scene_file(name: str) -> Callable[[Path], Path]:
    """A scene; returns one of its files."""

    def make(folder: Path) -> Path:
        scene().save(folder / "scene")
        return folder / "scene" / name

    return make


def version_1(folder: Path) -> Path:
    """A scene without tracks, checksums of images and a number of depth codes."""
    file = scene_file("scene.json")(folder)
    content = json.loads(file.read_text())
    content["schema_version"] = 1
    del content["crc32"], content["depth"]["codes"], content["sha256"]["tracks.safetensors"]
    file.write_text(json.dumps(content))
    return file


def collection(folder: Path) -> Path:
    """Records of two images."""
    entries = [{"file": f"{name}.jpg", "scene": name, "image_sha256": name * 64} for name in "ab"]
    content = {"name": "scenes", "source": "/images", "images": entries}
    (folder / "collection.json").write_text(json.dumps(content))
    return folder / "collection.json"


def failed(folder: Path) -> Path:
    """Records of two failures."""
    (folder / "failed.json").write_text(json.dumps([{"file": f"{name}.txt", "reason": "no image"} for name in "ab"]))
    return folder / "failed.json"


def lora_state() -> dict[str, Any]:
    """LoRA matrices of rank 2 of two layers, with the keys of diffusers."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    state = {}
    for layer in ("blocks.0.attn1.to_q", "blocks.0.attn1.to_v"):
        state[f"{layer}.lora_A.weight"] = torch.randn(2, 4, generator=generator)
        state[f"{layer}.lora_B.weight"] = torch.randn(4, 2, generator=generator)
    return state


def adapter_file(name: str) -> Callable[[Path], Path]:
    """An adapter; returns one of its files."""

    def make(folder: Path) -> Path:
        import torch

        from fourdnex.model.adapter_files import AdapterInfo, save_adapter
        from fourdnex.model.fusion import DOMAIN_KEY

        save_adapter(folder / "adapter", lora_state() | {DOMAIN_KEY: torch.randn(2, 4)}, AdapterInfo(rank=2, alpha=2.0))
        return folder / "adapter" / name

    return make


def reference_file(name: str) -> Callable[[Path], Path]:
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


def wan_lora(folder: Path) -> Path:
    """LoRA matrices with Wan's names and alphas, beside the reference implementation's domain embeddings."""
    import torch
    from safetensors.torch import save_file

    reference_file("")(folder)
    state = {}
    for layer in ("blocks.0.self_attn.q", "blocks.0.ffn.0"):
        state[f"diffusion_model.{layer}.lora_down.weight"] = torch.ones(2, 4)
        state[f"diffusion_model.{layer}.lora_up.weight"] = torch.ones(4, 2)
        state[f"diffusion_model.{layer}.alpha"] = torch.tensor(1.0)
    save_file(state, folder / "pytorch_lora_weights.safetensors")
    return folder / "pytorch_lora_weights.safetensors"


def data_file(name: str) -> Callable[[Path], Path]:
    """A data set of two clips; returns one of its files."""

    def make(folder: Path) -> Path:
        from fourdnex.datasets.manifest import write_manifest
        from fourdnex.datasets.shards import write_shard

        write_manifest(folder, write_shard(folder, "worlds-0000", [clip("world-1"), clip("world-2")]))
        return folder / name

    return make


def annotated_file(name: str) -> Callable[[Path], Path]:
    """An annotated shard of two clips; returns one of its files."""

    def make(folder: Path) -> Path:
        from fourdnex.datasets.annotated import clip_arrays, clip_row, save_arrays, write_annotated

        rows, arrays = [], {}
        for each in (clip("world-1"), clip("world-2")):
            arrays[each.name] = folder / f"{each.name}.arrays"
            save_arrays(arrays[each.name], each.name, clip_arrays(each))
            rows.append(clip_row(each, "worlds-0000"))
        write_annotated(folder, "worlds-0000", rows, arrays)
        return folder / name

    return make


def latents_file(name: str) -> Callable[[Path], Path]:
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


def transforms(folder: Path) -> Path:
    """A transforms.json with most fields."""
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    frame = {"transform_matrix": pose.tolist(), "fl_x": 20.0, "time": 0.5}
    fields = {"fl_x": 20, "cx": 12.0, "w": 24, "h": 16, "fps": 24, "camera_model": "OPENCV", "k1": 0.0,
              "axes": "OpenGL", "applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 0.5}  # fmt: skip
    (folder / "path.json").write_text(json.dumps({**fields, "frames": [frame, {"transform_matrix": pose.tolist()}]}))
    return folder / "path.json"


def viewer_path(folder: Path) -> Path:
    """A camera path of nerfstudio's viewer."""
    camera = {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 50, "render_time": 0.25, "aspect": 1.5}
    content = {"camera_path": [camera, camera], "seconds": 2, "camera_type": "perspective"}
    (folder / "path.json").write_text(json.dumps(content))
    return folder / "path.json"


def captions(name: str) -> Callable[[Path], Path]:
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


def image(name: str, **options: Any) -> Callable[[Path], Path]:
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


def sixteen_bit_png(folder: Path) -> Path:
    """A PNG with 16 bits per channel."""
    import cv2

    cv2.imwrite(str(folder / "a.png"), scene().rgb[0].astype(np.uint16) * 257)
    return folder / "a.png"


def video(folder: Path) -> Path:
    """An H.264 video."""
    from fourdnex.io.video import write_video

    write_video(folder / "a.mkv", scene().rgb, fps=24)
    return folder / "a.mkv"


def mp4(folder: Path) -> Path:
    """An MPEG-4 video."""
    import av

    with av.open(str(folder / "a.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in scene().rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder / "a.mp4"


NPZ_10M = "data/dynamic/dynamic_3/00012/frame_00000-frame_00002.npz"
MONST3R = "data/dynamic/dynamic_1/00012/00012_0-2"
CAPTIONS_10M = "data/caption/dynamic_1_with_caption_upload.csv"


def ten_m_file(name: str) -> Callable[[Path], Path]:
    """A 4DNeX-10M folder with a MegaSaM and a MonST3R clip; returns one of its files."""

    def make(folder: Path) -> Path:
        from PIL import Image

        source = scene()
        poses = source.camera_to_world
        archive, monst3r, captions = folder / NPZ_10M, folder / MONST3R, folder / CAPTIONS_10M
        for path in (archive.parent, monst3r, captions.parent, folder / "data/raw/dynamic/dynamic_1"):
            path.mkdir(parents=True)
        np.savez(archive, images=source.rgb, depths=source.depth, intrinsic=source.intrinsics, cam_c2w=poses)
        for t in range(NUM_FRAMES):
            np.save(monst3r / f"frame_{t:04d}.npy", source.depth[t])
            Image.fromarray(source.depth[t] > 2).convert("L").save(monst3r / f"dynamic_mask_{t}.png")
        np.savetxt(monst3r / "pred_traj.txt", [[t, 0, 0, t, 1, 0, 0, 0] for t in range(NUM_FRAMES)], "%.6f")
        np.savetxt(monst3r / "pred_intrinsics.txt", np.tile(source.intrinsics.reshape(1, 9), (NUM_FRAMES, 1)))
        captions.write_text('number,caption\n00012,"A box, red."\n')
        mp4(folder).rename(folder / "data/raw/dynamic/dynamic_1/00012.mp4")
        return folder / name

    return make


def spec(folder: Path) -> Path:
    """An ablation of two variants."""
    variants = {"plain": {}, "shifted": {"sigma_shift": 2.0, "fusion": "width"}}
    content = {"name": "shift", "variants": variants, "settings": {"rank": 3, "targets": ["to_q"]}}
    (folder / "spec.json").write_text(json.dumps(content))
    return folder / "spec.json"


def base(folder: Path) -> Path:
    """The configuration of a base, without weights."""
    (folder / "transformer").mkdir()
    (folder / "model_index.json").write_text("{}")
    (folder / "transformer" / "config.json").write_text(
        json.dumps({"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 1})
    )
    return folder / "transformer" / "config.json"
