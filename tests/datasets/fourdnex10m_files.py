"""Exact worlds as clips of 4DNeX-10M, in the layout of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from fourdnex.clip import Clip
from fourdnex.datasets.fourdnex10m import SUBSETS
from fourdnex.datasets.worlds import render_world
from fourdnex.geometry.cameras import transform_points

START, COUNT = 2, 4
FIRST_CAMERA = np.eye(4)
FIRST_CAMERA[:3, :3] = Rotation.from_euler("xyz", [20, -70, 130], degrees=True).as_matrix()
FIRST_CAMERA[:3, 3] = 3, -1, 2
"""Pose of the video's first camera in the frame of the files."""
SEEDS = dict(zip(SUBSETS, (3, 5, 8, 13, 21), strict=True))
NAMES = {
    "dynamic_1": "dynamic_1-00012-2-5",
    "dynamic_2": "dynamic_2-00012-2-5",
    "dynamic_3": "dynamic_3-00012-00002-00005",
    "static_1": "static_1-00012-00003-00006",
    "static_2": "static_2-00012-00003-00006",
}


def source_world(subset: str) -> Clip:
    """The complete source video."""
    return render_world(SEEDS[subset], num_frames=START + COUNT + 1, height=32, width=48)


def expected_clip(subset: str) -> Clip:
    """The expected clip."""
    return source_world(subset).window(START, COUNT)


def poses_in_the_files(subset: str) -> np.ndarray:
    return FIRST_CAMERA @ source_world(subset).camera_to_world[START : START + COUNT]


def write_mp4(path: Path, rgb: np.ndarray) -> None:
    """Write a video at twice the size, which the reader has to downscale."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 2 * rgb.shape[1], 2 * rgb.shape[2], "yuv444p"
        stream.options = {"crf": "6", "threads": "1"}
        for frame in rgb.repeat(2, axis=1).repeat(2, axis=2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_monst3r(data: Path, subset: str) -> None:
    clip, poses = expected_clip(subset), poses_in_the_files(subset)
    folder = data / "dynamic" / subset / "00012" / "00012_2-5"
    folder.mkdir(parents=True)
    dtype = np.float16 if subset == "dynamic_2" else np.float32
    for t in range(COUNT):
        np.save(folder / f"frame_{t:04d}.npy", clip.depth[t].astype(dtype))
        if (subset, t) != ("dynamic_2", 1):
            Image.fromarray(clip.dynamic_mask[t]).convert("L").save(folder / f"dynamic_mask_{t}.png")
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(scalar_first=True)
    np.savetxt(folder / "pred_traj.txt", np.column_stack([np.arange(COUNT), poses[:, :3, 3], quaternions]), "%.6f")
    np.savetxt(folder / "pred_intrinsics.txt", np.tile(clip.intrinsics.reshape(1, 9), (COUNT, 1)))
    write_mp4(data / "raw" / "dynamic" / subset / "00012.mp4", source_world(subset).rgb)


def write_megasam(data: Path, subset: str) -> None:
    clip = expected_clip(subset)
    path = data / "dynamic" / subset / "00012" / "frame_00002-frame_00005.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, images=clip.rgb, depths=clip.depth, intrinsic=clip.intrinsics, cam_c2w=poses_in_the_files(subset))
    write_mp4(data / "raw" / "dynamic" / subset / "00012.mp4", source_world(subset).rgb)


def write_dust3r(data: Path, subset: str) -> None:
    clip, poses = expected_clip(subset), poses_in_the_files(subset)
    points = transform_points(clip.pointmaps, poses[0])
    suffix, part = (".png", "") if subset == "static_1" else ("", "part_3")
    path = data / "static" / subset / part / "00012" / f"frame_00003{suffix}-frame_00006{suffix}.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, np.array({"pts3d": points, "poses": poses.astype(np.float16)}, dtype=object))
    raw = data / "raw" / "static" / subset
    if subset == "static_1":
        (raw / "00012" / "images_4").mkdir(parents=True)
        for t, rgb in enumerate(source_world(subset).rgb, start=1):
            large = Image.fromarray(rgb.repeat(2, axis=0).repeat(2, axis=1))
            large.save(raw / "00012" / "images_4" / f"frame_{t:05d}.{'jpg' if t == 7 else 'png'}")
    else:
        write_mp4(raw / "00012.mp4", source_world(subset).rgb)


def write_data_set(data: Path) -> Path:
    """All five subsets with one clip each."""
    (data / "caption").mkdir(parents=True)
    for subset in SUBSETS:
        writer = write_dust3r if subset.startswith("static") else write_monst3r
        (write_megasam if subset == "dynamic_3" else writer)(data, subset)
        # As pandas writes it: without leading zeros, or as floats if a value is missing.
        number = "12.0" if subset == "static_2" else "12"
        text = f'number,caption\n1,Another.\n{number},"{expected_clip(subset).caption}"\n../../x,Elsewhere.\n'
        (data / "caption" / f"{subset}_with_caption_upload.csv").write_text(text)
    (data / "caption" / "dynamic_2_with_caption_upload.csv").unlink()
    (data / "dynamic" / ".DS_Store").write_text("")
    (data / "dynamic" / "dynamic_1" / ".DS_Store").write_text("")
    return data
