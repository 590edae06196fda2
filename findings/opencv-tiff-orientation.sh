#!/usr/bin/env bash
# OpenCV cannot `imread` a TIFF whose orientation tag turns it by 90 degrees (None, "Internal imread issue"). `imdecode` reads
# the same bytes and turns them whatever flags say: IMREAD_UNCHANGED and IMREAD_IGNORE_ORIENTATION leave JPEG and PNG as they
# are stored, but not TIFF. Who turns by the tag afterwards, as for the others, turns twice.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.2 pillow==13.0.0
cat > "$folder/read.py" <<'PYTHON'
import sys
import cv2, numpy as np
from PIL import Image

print(f"opencv {cv2.__version__}")
ROTATE_90 = 6  # to be turned clockwise when shown
exif = Image.Exif()
exif[0x0112] = ROTATE_90
shapes = {}
for suffix in ("jpg", "png", "tif"):
    path = f"{sys.argv[1]}/a.{suffix}"
    Image.new("RGB", (96, 64)).save(path, exif=exif)
    for name in ("IMREAD_COLOR", "IMREAD_UNCHANGED", "IMREAD_IGNORE_ORIENTATION"):
        flags = getattr(cv2, name) | (cv2.IMREAD_COLOR if name == "IMREAD_IGNORE_ORIENTATION" else 0)
        shapes[suffix, name] = cv2.imdecode(np.fromfile(path, np.uint8), flags).shape[:2]
        print(f"{suffix} stored as 64 x 96, imdecode with {name:26s} {shapes[suffix, name]}")
    read = cv2.imread(path)
    shapes[suffix, "imread"] = None if read is None else read.shape[:2]
    print(f"{suffix} stored as 64 x 96, imread {shapes[suffix, 'imread']}")
assert shapes["jpg", "imread"] == shapes["png", "imread"] == (96, 64), "imread does not turn JPEG or PNG any more"
assert shapes["tif", "imread"] is None, "imread reads a turned TIFF now"
for name in ("IMREAD_UNCHANGED", "IMREAD_IGNORE_ORIENTATION"):
    assert shapes["jpg", name] == shapes["png", name] == (64, 96), "JPEG or PNG is turned now"
    assert shapes["tif", name] == (96, 64), "TIFF is left as it is stored now"
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder"
