#!/usr/bin/env bash
# Rerun: a recording of 0.41 is whole to 0.26, which logs that it is "Not an RRD file" (the footer is new) and reads all of
# it; the Python reader of 0.24 reads nothing. Rerun has no option to write an older version's format.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for version in 0.41.0 0.26.2 0.24.1; do
    python3 -m venv "$version"
    "$version/bin/pip" install --quiet "rerun-sdk==$version"
done
0.41.0/bin/python - <<'PYTHON'
import rerun as rr

recording = rr.RecordingStream("finding")
stream = rr.binary_stream(recording)
for frame in range(3):
    recording.set_time("frame", sequence=frame)
    recording.log("points", rr.Points3D([[frame, 0, 0], [frame, 1, 0]]))
recording.flush()
with open("a.rrd", "wb") as file:
    file.write(stream.read())
print(f"rerun-sdk {rr.__version__} writes 3 frames of 2 points")
print("expected: an older version reads them, or says that it cannot")
PYTHON
cat > read.py <<'PYTHON'
import rerun as rr

table = rr.dataframe.load_recording("a.rrd").view(index="frame", contents="/**").select().read_all()
print([len(points) for points in table.column("/points:Points3D:positions").to_pylist()])
PYTHON
seen=$(0.26.2/bin/python read.py 2>log)
said=$(grep -o 'Not an RRD file' log | head -1)
echo "seen, 0.26.2: points of the frames $seen, and it logs: $said"
[ "$seen" = "[2, 2, 2]" ] && [ -n "$said" ] || { echo "the behavior has changed"; exit 1; }
if 0.24.1/bin/python read.py >log 2>&1; then echo "the behavior has changed"; exit 1; fi
echo "seen, 0.24.1: $(tail -1 log)"

grep -q "decode message" log || { echo "the behavior has changed"; exit 1; }
