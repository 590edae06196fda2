"""How other programs open a scene's files: `python -m benchmarks.interoperability SCENE OUT`

Writes the scene in several formats to OUT, opens them with the available programs, and prints a row for each. Programs
that are installed separately are passed as options: a Python with open3d, pymeshlab, plyfile and trimesh (--readers);
`blender` or a Python with bpy (--blender, repeatable); a folder with npm's three and gltf-validator (--node).
CloudCompare, f3d (with xvfb-run), Chromium and Firefox are used if they are installed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.interoperability import browser
from benchmarks.reporting import argument_parser, print_table
from fourdnex.export import EXPORTERS, ExportOptions
from fourdnex.scene import Scene4D

HERE = Path(__file__).parent
FILES = {
    "ply/frame_0000.ply": "PLY, points",
    "ply-mesh/frame_0000.ply": "PLY, `--mesh`",
    "glb/frame_0000.glb": "GLB, points",
    "glb-mesh/frame_0000.glb": "GLB, `--mesh`",
    "points.usdc": "USD, points",
    "mesh.usdc": "USD, `--mesh`",
    "scene/rgb.mkv": "rgb.mkv (FFV1)",
    "scene/depth.mkv": "depth.mkv (FFV1, 16 bit)",
    "views.mp4": "MP4 of `render` (H.264)",
}
VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(({ issues, validatorVersion }) =>
  console.log(JSON.stringify({ version: validatorVersion, result: `${issues.numErrors} errors, ${issues.numWarnings} ` +
    `warnings${issues.messages.map((m) => `; ${m.code}`).join("")}` })));
"""


def main() -> None:
    """Write the files, open them with every program, and print one row per program and file."""
    parser = argument_parser(__doc__)
    parser.add_argument("scene", type=Path, help="scene folder")
    parser.add_argument("out", type=Path, help="output folder for the files and for renderings by other programs")
    parser.add_argument("--readers", help="Python with open3d, pymeshlab, plyfile and trimesh")
    parser.add_argument(
        "--blender", action="append", default=[], help="Blender executable, or a Python with bpy; repeatable"
    )
    parser.add_argument("--node", type=Path, help="folder with node_modules of three and gltf-validator")
    options = parser.parse_args()
    root = options.out.resolve()
    scene = write_files(options.scene, root)
    if options.node and not (root / "node_modules").exists():
        (root / "node_modules").symlink_to(options.node.resolve() / "node_modules")
    paths = [str(root / name) for name in FILES if (root / name).suffix in (".ply", ".glb", ".usdc")]
    rows = [*by_usd(root), *by_opencv(root / "scene" / "depth.mkv")]
    if options.readers:
        rows += run([options.readers, HERE / "readers.py", *paths])
    for program in options.blender:
        job = {"paths": paths, "size": [scene.width, scene.height], "image": str(root / "image.png")}
        job["angle"] = 2 * float(np.arctan(scene.width / 2 / scene.intrinsics[0, 0]))
        (root / "job.json").write_text(json.dumps(job))
        start = ["-b", "-P", HERE / "blender.py", "--"] if Path(program).name == "blender" else [HERE / "blender.py"]
        rows += run([program, *start, root / "job.json"])
    rows += [*by_cloudcompare(paths), *by_f3d(paths), *browser.rows(root)]
    if options.node:
        rows += by_validator(paths, options.node)
    table = []
    for row in rows:
        label = FILES.get(Path(row["path"]).relative_to(root).as_posix())
        if label is not None:
            table.append((row["client"], row["version"], label, row["result"]))
    columns = ("client", "version", "file", "result")
    print_table(f"{scene.name} in other programs", columns, table, packages=("numpy",))


def write_files(folder: Path, root: Path) -> Scene4D:
    """Write every file of `FILES` to `root`; the scene."""
    scene = Scene4D.load(folder)
    for name in FILES:
        if name.endswith((".ply", ".glb", ".usdc")):
            kind = Path(name).suffix[1:4]
            target = root / name if kind == "usd" else (root / name).parent
            EXPORTERS[kind](scene, target, ExportOptions(mesh="mesh" in name))
    shutil.copytree(folder, root / "scene", dirs_exist_ok=True)
    Image.fromarray(scene.rgb[0]).save(root / "image.png")
    subprocess.run([sys.executable, "-m", "fourdnex", "render", str(folder), str(root / "views.mp4")], check=True)
    return scene


def run(command: list[str | Path]) -> list[dict[str, str]]:
    """Run `blender.py` or `readers.py` and return the rows that it prints, ignoring output of libraries."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"client"')]
    if done.returncode or not rows:
        raise SystemExit(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return rows


def by_usd(root: Path) -> Iterator[dict[str, str]]:
    """USD's own validators on the USD files."""
    from pxr import Usd, UsdGeom, UsdValidation

    for name in ("points.usdc", "mesh.usdc"):
        stage = Usd.Stage.Open(str(root / name))
        validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
        errors = UsdValidation.ValidationContext(validators).Validate(stage)
        bounds = UsdGeom.BBoxCache(Usd.TimeCode.Default(), ["default"]).ComputeWorldBound(stage.GetDefaultPrim())
        size = np.round(bounds.GetRange().GetSize(), 2).tolist()
        result = f"{len(errors)} errors of {len(validators)} validators; size at the default time {size}"
        yield {"client": "usd-core", "version": version("usd-core"), "path": str(root / name), "result": result}


def by_opencv(path: Path) -> Iterator[dict[str, str]]:
    """OpenCV on the depth video, with and without conversion to RGB."""
    import cv2

    for flag, text in ((None, "default"), (0, "with CAP_PROP_CONVERT_RGB 0")):
        video = cv2.VideoCapture(str(path))
        if flag is not None:
            video.set(cv2.CAP_PROP_CONVERT_RGB, flag)
        success, frame = video.read()
        result = f"{text}: {frame.shape} {frame.dtype}, up to {frame.max()}" if success else f"{text}: not read"
        yield {"client": "OpenCV", "version": cv2.__version__, "path": str(path), "result": result}


def by_cloudcompare(paths: list[str]) -> Iterator[dict[str, str]]:
    """CloudCompare on every file."""
    program = shutil.which("CloudCompare")
    for path in paths if program else []:
        command = [program, "-SILENT", "-AUTO_SAVE", "OFF", "-O", path]
        environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        opened = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Found one")]
        result = opened[0] if opened else "not opened"
        yield {"client": "CloudCompare", "version": package("cloudcompare"), "path": path, "result": result}


def by_f3d(paths: list[str]) -> Iterator[dict[str, str]]:
    """f3d on every file."""
    program, display = shutil.which("f3d"), shutil.which("xvfb-run")
    for path in paths if program and display else []:
        image = Path(f"{path}.f3d.png")
        scalars = ["--scalars", "--comp=-2"] if path.endswith(".ply") else []  # PLY is white without it
        command = [display, "-a", program, path, f"--output={image}", "--resolution=480,320", *scalars]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and image.is_file():
            pixels = np.asarray(Image.open(image).convert("RGB"), int)
            share = (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 8).mean()
            result = f"{100 * share:.0f} % of the window covered"
        else:
            result = "not opened"
        yield {"client": "f3d", "version": package("f3d"), "path": path, "result": result}


def by_validator(paths: list[str], node: Path) -> Iterator[dict[str, str]]:
    """Khronos' glTF validator on the GLB files."""
    for path in paths:
        if path.endswith(".glb"):
            command = ["node", "-e", VALIDATE, path]
            output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=node).stdout
            yield {"client": "glTF validator", "path": path, **json.loads(output)}


def package(name: str) -> str:
    """Version of an installed Debian package."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout or "unknown"


if __name__ == "__main__":
    main()
