"""An exact world as other tools write the geometry of its video. Its frames have other poses in the files' world."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from fourdnex.clip import Clip
from fourdnex.export.colmap import export_colmap
from fourdnex.export.nerfstudio import export_nerfstudio
from fourdnex.geometry.cameras import invert_pose
from fourdnex.scene import Scene4D
from tests.io.exr_files import exr_bytes

FIRST_CAMERA = np.eye(4)
FIRST_CAMERA[:3, :3] = Rotation.from_euler("xyz", [20, -70, 130], degrees=True).as_matrix()
FIRST_CAMERA[:3, 3] = 3, -1, 2
"""Pose of the first camera in the world of the files."""


def poses_of(clip: Clip) -> np.ndarray:
    """[T, 4, 4] in the world of the files."""
    return FIRST_CAMERA @ clip.camera_to_world.astype(np.float64)


def write_megasam(root: Path, name: str, clip: Clip) -> Path:
    """As its cvd_opt.py does."""
    path = root / f"{name}_sgd_cvd_hr.npz"
    depths = np.clip(clip.depth.astype(np.float16), 1e-3, 1e2)
    np.savez(path, images=clip.rgb, depths=depths, intrinsic=clip.intrinsics, cam_c2w=poses_of(clip))
    return path


def write_monst3r(root: Path, name: str, clip: Clip) -> Path:
    """As its demo.py does."""
    folder, poses = root / name, poses_of(clip)
    folder.mkdir(parents=True)
    for t in range(clip.num_frames):
        np.save(folder / f"frame_{t:04d}.npy", clip.depth[t])
        np.save(folder / f"conf_{t}.npy", np.full(clip.depth[t].shape, np.log(4), np.float32))
        Image.fromarray(clip.dynamic_mask[t]).convert("L").save(folder / f"dynamic_mask_{t}.png")
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(scalar_first=True)
    np.savetxt(folder / "pred_traj.txt", np.column_stack([np.arange(len(poses)), poses[:, :3, 3], quaternions]))
    np.savetxt(folder / "pred_intrinsics.txt", np.tile(clip.intrinsics.reshape(1, 9), (len(poses), 1)), "%.6f")
    return folder


def write_vggt(root: Path, name: str, clip: Clip) -> Path:
    """As its demo_gradio.py does, with an entry that is a pickled None."""
    path = root / name / "predictions.npz"
    path.parent.mkdir(parents=True)
    np.savez(
        path,
        depth=clip.depth[..., None],
        depth_conf=np.full(clip.depth.shape, 4, np.float32),
        extrinsic=invert_pose(poses_of(clip))[:, :3],
        intrinsic=np.tile(clip.intrinsics, (clip.num_frames, 1, 1)),
        images=(clip.rgb / 255).transpose(0, 3, 1, 2).astype(np.float32),
        pose_enc_list=np.array(None),
    )
    return path


def write_vipe(root: Path, name: str, clip: Clip) -> Path:
    """As its utils/io.py does."""
    for folder in ("pose", "intrinsics", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    frames = np.arange(clip.num_frames)
    np.savez(root / "pose" / f"{name}.npz", data=poses_of(clip).astype(np.float32), inds=frames)
    np.savez(root / "intrinsics" / f"{name}.npz", data=np.tile(_pinhole(clip), (len(frames), 1)), inds=frames)
    (root / "intrinsics" / f"{name}_camera.txt").write_text("".join(f"{frame}: PINHOLE\n" for frame in frames))
    _write_depth(root / "depth" / f"{name}.zip", clip.depth)
    return root / "pose" / f"{name}.npz"


def write_spatialvid(root: Path, name: str, clip: Clip) -> Path:
    """As the data set is distributed; every frame is annotated."""
    folder = root / "annotations" / "group_0001" / name
    folder.mkdir(parents=True)
    world_to_camera = invert_pose(poses_of(clip))
    quaternions = Rotation.from_matrix(world_to_camera[:, :3, :3]).as_quat()
    np.save(folder / "poses.npy", np.hstack([world_to_camera[:, :3, 3], quaternions]).astype(np.float32))
    normalized = _pinhole(clip) / [clip.width, clip.height, clip.width, clip.height]
    np.save(folder / "intrinsics.npy", np.tile(normalized, (clip.num_frames, 1)))
    (folder / "indexes.txt").write_text("".join(f"{t} {t}\n" for t in range(clip.num_frames)))
    (root / "depths" / "group_0001").mkdir(parents=True)
    _write_depth(root / "depths" / "group_0001" / f"{name}.zip", 1 / clip.depth)
    return folder


def write_nerfstudio(root: Path, name: str, clip: Clip) -> Path:
    """As `fourdnex export --to nerfstudio` does."""
    scene = Scene4D(rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world)
    export_nerfstudio(scene, root / name)
    path = root / name / "transforms.json"
    content = json.loads(path.read_text())
    turned = FIRST_CAMERA @ np.array([frame["transform_matrix"] for frame in content["frames"]])
    for frame, pose in zip(content["frames"], turned, strict=True):
        frame["transform_matrix"] = pose.tolist()
    content["frames"].reverse()
    path.write_text(json.dumps(content))
    return path


def write_colmap(root: Path, name: str, clip: Clip) -> Path:
    """As `fourdnex export --to colmap` does, which COLMAP reads."""
    scene = Scene4D(rgb=clip.rgb, depth=clip.depth, intrinsics=clip.intrinsics, camera_to_world=clip.camera_to_world)
    export_colmap(scene, root / name)
    return root / name / "sparse" / "0"


WRITERS = {
    "megasam": write_megasam,
    "monst3r": write_monst3r,
    "vggt": write_vggt,
    "vipe": write_vipe,
    "spatialvid": write_spatialvid,
    "nerfstudio": write_nerfstudio,
}
"""Writers of formats with depth."""


def _pinhole(clip: Clip) -> np.ndarray:
    """fx, fy, cx, cy."""
    return clip.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]


def _write_depth(path: Path, values: np.ndarray) -> None:
    """Zipped OpenEXR images of half floats."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for t, depth in enumerate(values):
            content = io.BytesIO(exr_bytes({"Z": depth.astype(np.float16)}))
            archive.writestr(f"{t:05d}.exr", content.getvalue())
