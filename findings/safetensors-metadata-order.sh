#!/usr/bin/env bash
# safetensors: equal tensors and equal metadata give different files in different processes, because the entries of
# __metadata__ are written in the order of a randomly seeded hash map. With one entry, or none, the files are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet safetensors==0.8.0 numpy==2.4.6
cat > write.py <<'PYTHON'
import hashlib
import sys

import numpy as np
from safetensors.numpy import save

metadata = {key: "x" for key in sys.argv[1:]}
print(hashlib.sha256(save({"a": np.arange(4), "b": np.ones(2)}, metadata=metadata)).hexdigest()[:16])
PYTHON
venv/bin/python -c 'import safetensors; print("safetensors", safetensors.__version__)'
echo "expected: one digest for 12 processes that save the same tensors and metadata"
for keys in "base" "base digest encoding statistics"; do
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do venv/bin/python write.py $keys; done | sort -u > digests
    echo "seen, metadata with the keys \"$keys\": $(wc -l < digests) digests"
    eval "count_$(wc -w <<< "$keys")=$(wc -l < digests)"
done
test "$count_1" = 1 && test "$count_4" -gt 1 || { echo "the behavior has changed"; exit 1; }
