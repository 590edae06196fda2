import json
import subprocess
import sys

import numpy as np
import pytest

from fourdnex.export import ExportOptions, export_rerun
from fourdnex.geometry.cameras import project


def read_columns(path) -> dict[str, list]:
    """Values of all components by "entity component", over the chunks of the recording."""
    chunk = pytest.importorskip("rerun.chunk")
    columns: dict[str, list] = {}
    for part in chunk.RrdReader(path).stream():
        batch = part.to_record_batch()
        for name in batch.schema.names:
            columns.setdefault(f"{part.entity_path} {name}", []).extend(batch.column(name).to_pylist())
    return columns


def test_recording_has_points_cameras_images_and_depth(scene, tmp_path):
    export_rerun(scene, tmp_path / "s.rrd")
    assert [path.name for path in tmp_path.iterdir()] == ["s.rrd"]
    columns = read_columns(tmp_path / "s.rrd")

    positions = columns["/world/points Points3D:positions"]
    assert len(positions) == 3
    for t, points in enumerate(positions):
        assert np.array(points) == pytest.approx(scene.points(t)[0], abs=1e-6)
    # Half the diagonal of the cell between points: 1/15 by 1/14 at depth 1.
    radii = np.array(columns["/world/points Points3D:radii"][0])
    assert radii == pytest.approx(scene.depth[0].ravel() * np.hypot(1 / 15, 1 / 14) / 2)
    centers = np.array(columns["/world/camera Transform3D:translation"])[:, 0]
    assert centers == pytest.approx(scene.camera_to_world[:, :3, 3])
    assert len(columns["/world/camera EncodedImage:blob"]) == 3
    # Column-major: fx, 0, 0, 0, fy, 0, cx, cy, 1.
    intrinsics = columns["/world/camera Pinhole:image_from_camera"][0][0]
    assert intrinsics == pytest.approx([15, 0, 0, 0, 14, 0, 5.1, 3.9, 1])
    assert sorted(columns["/world/points frame"]) == [0, 1, 2]
    assert '"adapter_digest": "abc"' in columns["/provenance TextDocument:text"][0][0]

    (meter,) = columns["/world/camera/depth DepthImage:meter"][0]
    for t, buffer in enumerate(columns["/world/camera/depth DepthImage:buffer"]):
        codes = np.array(buffer[0], np.uint8).view("<u2").reshape(8, 12)
        assert codes[codes > 0] / meter == pytest.approx(scene.depth[t][codes > 0], rel=1e-4)
        assert ((codes == 0) == np.isnan(scene.depth[t])).all()


def test_options_apply_to_points_and_cameras(scene, tmp_path):
    export_rerun(scene, tmp_path / "s.rrd", ExportOptions(up="z", scale=2, stride=2, depth_edge=0.2))
    columns = read_columns(tmp_path / "s.rrd")
    rotation = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, 3] = np.array(columns["/world/camera Transform3D:translation"])[:, 0]
    poses[:, :3, :3] = np.array(columns["/world/camera Transform3D:mat3x3"]).reshape(3, 3, 3).swapaxes(1, 2)
    assert poses[:, :3, 3] == pytest.approx(2 * scene.camera_to_world[:, :3, 3] @ rotation.T, abs=1e-6)
    points = np.array(columns["/world/points Points3D:positions"][2])
    pixels = project(points[None], scene.intrinsics, poses[2:])[0][0]
    expected = [(x, y) for y in (0, 2, 4, 6) for x in (0, 2, 4, 6, 10)]  # column 8 is on the depth edge
    assert pixels == pytest.approx(np.array(expected), abs=1e-3)


READER = """
import json, sys
import rerun as rr
recording = rr.dataframe.load_recording(sys.argv[1])
table = recording.view(index="frame", contents="/world/**").select().read_all()
positions = table.column("/world/points:Points3D:positions").to_pylist()
print("result:" + json.dumps({"version": rr.__version__, "positions": positions}))
"""


@pytest.mark.slow
def test_older_rerun_version_reads_the_points(scene, tmp_path):
    export_rerun(scene, tmp_path / "s.rrd")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", "rerun-sdk==0.26.2"], check=False)
    if installed.returncode != 0:
        pytest.skip("rerun-sdk 0.26.2 cannot be installed")
    ran = subprocess.run([python, "-c", READER, tmp_path / "s.rrd"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    read = json.loads(ran.stdout.partition("result:")[2])
    assert read["version"] == "0.26.2"
    for t in range(3):
        assert np.array(read["positions"][t]) == pytest.approx(scene.points(t)[0], abs=1e-6)
