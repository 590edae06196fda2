#!/usr/bin/env bash
# FFmpeg's swscale, through PyAV, converts YCbCr of 10 bits to packed RGB at 255/256 of its value: white is 253 of 255 and
# 65,283 of 65,535, where planar RGB of 8 bits (gbrp) gives 255. With FULL_CHR_H_INT, which is asked for to get better
# colors, rgb24 is right and rgb48 is another color altogether.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.2
cat > "$folder/convert.py" <<'PYTHON'
import av, numpy as np
from av.video.reformatter import Interpolation

print(f"av {av.__version__}, libswscale {'.'.join(map(str, av.library_versions['libswscale']))}")
RED, BLUE = 0.2627, 0.0593  # weights of BT.2020

def expected(y, cb, cr):
    luma, blue, red = (y - 64) / 876, (cb - 512) / 896 * 2 * (1 - BLUE), (cr - 512) / 896 * 2 * (1 - RED)
    r, b = luma + red, luma + blue
    return np.array([r, (luma - RED * r - BLUE * b) / (1 - RED - BLUE), b])

def converted(codes, layout, flags):
    planes = [np.full((64 >> (k > 0), 96 >> (k > 0)), code, np.uint16).ravel() for k, code in enumerate(codes)]
    frame = av.VideoFrame.from_ndarray(np.concatenate(planes).reshape(96, 96), format="yuv420p10le")
    frame.colorspace, frame.color_range = 9, 1  # BT.2020, limited range
    pixels = frame.reformat(format=layout, interpolation=flags).to_ndarray()
    return pixels[32, 48] / (65535 if pixels.dtype == np.uint16 else 255)

plain, full = Interpolation.BILINEAR, Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
off = {}
for name, codes in {"white": (940, 512, 512), "orange": (500, 400, 700)}.items():
    print(f"{name}: expected {(255 * expected(*codes)).round(1)} of 255")
    for layout in ("gbrp", "rgb24", "rgb48le", "gbrp16le"):
        for kind, flags in (("plain", plain), ("FULL_CHR_H_INT", full)):
            found = converted(codes, layout, flags)
            off[name, layout, kind] = np.abs(found - expected(*codes)).max() * 255
            print(f"  {layout:9s}{kind:15s} {(255 * found).round(1)}, off by {off[name, layout, kind]:.1f}")
assert off["white", "gbrp", "plain"] < 0.6, "planar RGB of 8 bits is not exact any more"
assert off["white", "rgb24", "plain"] > 1.5 and off["white", "rgb48le", "plain"] > 0.9, "packed RGB is exact now"
assert off["orange", "rgb24", "FULL_CHR_H_INT"] < 0.6, "rgb24 with full chroma is not exact any more"
assert off["orange", "rgb48le", "FULL_CHR_H_INT"] > 50, "rgb48 with full chroma is right now"
PYTHON
"$folder/venv/bin/python" "$folder/convert.py"
