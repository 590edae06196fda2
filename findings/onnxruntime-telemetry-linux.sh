#!/usr/bin/env bash
# The wheels of ONNX Runtime have telemetry on, on Linux too: the import alone makes a device id and a queue of events
# below the home folder. ORT_DISABLE_TELEMETRY=1 before the import prevents it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1
made_at_home() {
    local home="$folder/home$1"
    mkdir "$home"
    env -i HOME="$home" TMPDIR="$home" PATH="$PATH" ORT_DISABLE_TELEMETRY="$1" \
        "$folder/venv/bin/python" -c "import onnxruntime, time; time.sleep(5)"
    (cd "$home" && find . -type f | sort)
}
on=$(made_at_home 0)
off=$(made_at_home 1)
echo "onnxruntime $("$folder/venv/bin/python" -c 'import onnxruntime; print(onnxruntime.__version__)')"
echo "expected: importing the library writes nothing to the home folder"
echo "files in an empty home folder after the import:"
echo "${on:-none}"
echo "with ORT_DISABLE_TELEMETRY=1:"
echo "${off:-none}"
grep -q "onnxruntime/deviceid" <<< "$on" && grep -q "onnxruntime/onnxruntime.db" <<< "$on" && [ -z "$off" ]
