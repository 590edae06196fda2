import numpy as np
import pytest

from fourdnex.export import export_rerun
from fourdnex.scene import Scene4D


def make_scene() -> Scene4D:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0, 1, 2]
    return Scene4D(
        rgb=rng.integers(0, 256, (3, 16, 20, 3), dtype=np.uint8),
        depth=rng.uniform(1, 2, (3, 16, 20)),
        intrinsics=np.array([[20.0, 0, 9.5], [0, 20, 7.5], [0, 0, 1]]),
        camera_to_world=poses,
        fps=10,
        name="three frames",
    )


def read_columns(path) -> dict[str, list]:
    """Values of every component, by "entity component", over the recording's chunks."""
    chunk = pytest.importorskip("rerun.chunk")
    columns: dict[str, list] = {}
    for part in chunk.RrdReader(path).stream():
        batch = part.to_record_batch()
        for name in batch.schema.names:
            columns.setdefault(f"{part.entity_path} {name}", []).extend(batch.column(name).to_pylist())
    return columns


def test_points_cameras_and_pictures_of_every_frame(tmp_path):
    scene = make_scene()
    export_rerun(scene, tmp_path / "s.rrd")
    assert [path.name for path in tmp_path.iterdir()] == ["s.rrd"]
    columns = read_columns(tmp_path / "s.rrd")

    positions = columns["/world/points Points3D:positions"]
    assert len(positions) == 3
    for t, points in enumerate(positions):
        assert np.array(points) == pytest.approx(scene.points(t)[0])
    assert np.array(columns["/world/camera Transform3D:translation"])[:, 0, 0].tolist() == [0, 1, 2]
    assert len(columns["/world/camera EncodedImage:blob"]) == 3
    # Column-major: fx, 0, 0, 0, fy, 0, cx, cy, 1.
    assert columns["/world/camera Pinhole:image_from_camera"][0][0] == pytest.approx([20, 0, 0, 0, 20, 0, 9.5, 7.5, 1])
    assert sorted(columns["/world/points frame"]) == [0, 1, 2]
