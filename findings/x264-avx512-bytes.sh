#!/usr/bin/env bash
# x264 in PyAV's wheels is not deterministic on processors with AVX-512: the same frames, one thread and +bitexact give
# another file at every call in one process. Held to SSE4.2, and to AVX2, it repeats itself, with equal bytes for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.2
cat > "$folder/encode.py" <<'PYTHON'
import hashlib, io, sys
import av, numpy as np

avx512 = "avx512bw" in open("/proc/cpuinfo").read()
print(f"av {av.__version__}, AVX-512: {'yes' if avx512 else 'no'}")
noise, garbage = np.random.default_rng(0), np.random.default_rng(1)
y, x = np.mgrid[:64, :96]
waves = [128 + 100 * np.sin((x + 3 * t) / 9) * np.cos(y / 7) for t in range(17)]
frames = [np.stack([w, 255 - w, x * 2.0], -1) + noise.normal(0, 4, (64, 96, 3)) for w in waves]
frames = [frame.clip(0, 255).astype(np.uint8) for frame in frames]

def encode(instructions):
    blocks = [np.full(int(garbage.integers(100, 200_000)), garbage.integers(256), np.uint8) for _ in range(60)]
    del blocks[::2]  # freed memory with other contents every time
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv444p"
        stream.options = {"crf": "13", "threads": "1", "flags": "+bitexact"} | instructions
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return hashlib.sha256(file.getvalue()).hexdigest()[:12]

found = {}
for name in ("as it comes", "SSE2,SSSE3,SSE4.2,AVX,AVX2", "SSE2,SSSE3,SSE4.2"):
    options = {} if name == "as it comes" else {"x264-params": f"asm={name}"}
    found[name] = {encode(options) for _ in range(8)}
    print(f"{name:28s} {len(found[name])} different files of 8: {sorted(found[name])[:3]}")
assert (len(found["as it comes"]) > 1) == avx512, "x264 repeats itself now, or does not without AVX-512 either"
assert found["SSE2,SSSE3,SSE4.2,AVX,AVX2"] == found["SSE2,SSSE3,SSE4.2"] and len(found["SSE2,SSSE3,SSE4.2"]) == 1
PYTHON
"$folder/venv/bin/python" "$folder/encode.py"
