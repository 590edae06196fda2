"""`fourdnex export`: every format, the options, and mistakes in one line."""

import numpy as np
import pytest

from fourdnex.cli import main


@pytest.fixture
def folder(scene, tmp_path):
    scene.save(tmp_path / "scene")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "name", "made"),
    [
        ("ply", "out", "out/frame_0002.ply"),
        ("glb", "out", "out/frame_0002.glb"),
        ("colmap", "out", "out/sparse/0/points3D.bin"),
        ("nerfstudio", "out", "out/transforms.json"),
        ("rerun", "out.rrd", "out.rrd"),
        ("npz", "out.npz", "out.npz"),
    ],
)
def test_every_format_by_its_name(kind, name, made, folder, capsys):
    assert main(["export", str(folder / "scene"), str(folder / name), "--to", kind]) == 0
    assert (folder / made).stat().st_size > 0
    assert capsys.readouterr().out == f"{folder / name}\n"


def test_usd_by_its_name(folder):
    pytest.importorskip("pxr")
    assert main(["export", str(folder / "scene"), str(folder / "out.usdc"), "--to", "usd", "--up", "z"]) == 0
    assert (folder / "out.usdc").stat().st_size > 0


def test_options_reach_the_export(scene, folder):
    options = [
        "--stride",
        "2",
        "--min-confidence",
        "0.5",
        "--depth-edge",
        "0.2",
        "--up=-y",
        "--scale",
        "3",
        "--normals",
    ]
    assert main(["export", str(folder / "scene"), str(folder / "a.npz"), "--to", "npz", *options]) == 0
    with np.load(folder / "a.npz") as data:
        first = data["pixels"][: data["offsets"][1]]
        # Rows 0, 2, 4, 6 and columns 0, 2, 4, 6, 10; in row 0 the first five columns are of low confidence.
        assert first.tolist() == [6, 10] + [12 * y + x for y in (2, 4, 6) for x in (0, 2, 4, 6, 10)]
        assert data["normals"].shape == data["points"].shape and data["scale"] == 3
        # Depth on disk has 16 bits.
        assert data["points"][0] == pytest.approx(3 * scene.points(0)[0][6], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "--to", "usd"], "output: expected a name that ends in .usdc or .usd, got"),
        (["out.usdc", "--to", "rerun"], "output: expected a name that ends in .rrd, got"),
        (["out.ply", "--to", "ply"], "output: expected a folder for this format"),
        (["out", "--stride", "0"], "stride: expected at least 1, got 0"),
        (["out", "--to", "glb", "--up", "z"], "up: this format knows y only, got z"),
        (["out", "--to", "colmap", "--normals"], "normals: this format holds none"),
        (["out", "--depth-edge", "1e-9"], "no pixel has depth and passes"),
        (["scene"], "expected a new folder or an earlier export of this format, but it holds"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, folder, capsys):
    before = sorted(folder.rglob("*"))
    name, *options = arguments
    assert main(["export", str(folder / "scene"), str(folder / name), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert sorted(folder.rglob("*")) == before
