"""`fourdnex export`: all formats, options, and one-line errors."""

import numpy as np
import pytest

from fourdnex.cli import main


@pytest.fixture
def folder(scene, tmp_path):
    scene.save(tmp_path / "scene")
    return tmp_path


@pytest.mark.parametrize(
    ("format_name", "name", "expected"),
    [
        ("ply", "out", "out/frame_0002.ply"),
        ("glb", "out", "out/frame_0002.glb"),
        ("colmap", "out", "out/sparse/0/points3D.bin"),
        ("nerfstudio", "out", "out/transforms.json"),
        ("rerun", "out.rrd", "out.rrd"),
        ("npz", "out.npz", "out.npz"),
    ],
)
def test_command_writes_every_format(format_name, name, expected, folder, capsys):
    assert main(["export", str(folder / "scene"), str(folder / name), "--to", format_name]) == 0
    assert (folder / expected).stat().st_size > 0
    assert capsys.readouterr().out == f"{folder / name}\n"


def test_command_writes_usd(folder):
    pytest.importorskip("pxr")
    assert main(["export", str(folder / "scene"), str(folder / "out.usdc"), "--to", "usd", "--up", "z"]) == 0
    assert (folder / "out.usdc").stat().st_size > 0


def test_command_passes_the_options(scene, folder):
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
        # Rows 0, 2, 4, 6 and columns 0, 2, 4, 6, 10; in row 0, the first five columns have low confidence.
        assert first.tolist() == [6, 10] + [12 * y + x for y in (2, 4, 6) for x in (0, 2, 4, 6, 10)]
        assert data["normals"].shape == data["points"].shape and data["scale"] == 3
        # Saved depth has 16 bits.
        assert data["points"][0] == pytest.approx(3 * scene.points(0)[0][6], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "--to", "usd"], "output: expected a file name ending in .usdc or .usd, got"),
        (["out.usdc", "--to", "rerun"], "output: expected a file name ending in .rrd, got"),
        (["out.ply", "--to", "ply"], "output: expected a folder for this format"),
        (["out", "--stride", "0"], "stride: expected at least 1, got 0"),
        (["out", "--to", "glb", "--up", "z"], "up: this format supports y only, got z"),
        (["out", "--to", "colmap", "--normals"], "normals: not supported by this format"),
        (["out", "--depth-edge", "1e-9"], "no pixel has depth and passes"),
        (["scene"], "expected a new folder or an earlier export of this format, but it holds"),
    ],
)
def test_errors_are_one_line_and_leave_no_files(arguments, message, folder, capsys):
    before = sorted(folder.rglob("*"))
    name, *options = arguments
    assert main(["export", str(folder / "scene"), str(folder / name), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert sorted(folder.rglob("*")) == before
