"""Former terms stay out of code, help texts and documentation.

The files in `COMPATIBILITY` may read former names. Elsewhere a line that handles one must say so: by the words "former"
or "deprecated", or by calling a function of `fourdnex.io.renamed`.
"""

import re
import subprocess

import pytest

from tests.docs.pages import ROOT

FORMER_TERMS = {
    r"set[ _]aside": "failed or skipped, with the reason",
    r"xyz[_-]start\b": "xyz_init",
    r"\bpure_noise\b|--pure-noise": "sigma_one_prob",
    r"put_back": "denormalize",
    r"take_shortcuts": "the name of the optimization",
    r"(public|published) (code|way|recipe|implementation)": "reference implementation or recipe",
    r"(?<!load_)upstream": "reference",
    r"\b(held|holds?|stands?|stood|standing)[ _]still": "static",
    r"turned[ _]round": "reversed",
    r"(?<![a-z])pictures?(?![a-z])": "image",
    r"given starts?\b|\bstarts=|benchmarks\.starts": "first-frame point map or geometry",
    r"unless told": "unless specified, or the default",
    r"\bgo(es)? on from\b": "resume",
    r"optimis|normalis|colour|(?<![a-z])centre|licence": "American spelling",
}
"""Pattern -> current term."""

COMPATIBILITY = (
    "docs/glossary.md",
    "CHANGELOG.md",
    "fourdnex/io/renamed.py",
    "fourdnex/commands/renamed_options.py",
    "tests/commands/test_renamed_options.py",
    "tests/docs/test_words.py",
)
"""Files that read or list former names, and their tests."""

ALLOWED = {
    "fourdnex/datasets/worlds/indoor_families.py": "pictures?",  # framed pictures on the walls of rooms
    "fourdnex/generation/image_listing.py": "LICENCES?",  # names of files that are not captions
    "tests/ablation/test_run.py": "xyz_start|pure_noise|normalisation",  # settings of earlier versions
    "tests/ablation/test_spec.py": "xyz_start|pure_noise",
    "tests/orchestration/test_training_run.py": "xyz_start|pure_noise|normalisation",
}
"""File -> words that are not former terms there."""

ALIASES = re.compile(r"(de)?normalise_pointmaps|\bNormalisation\b|load_upstream_weights")
"""Deprecated names of the public API."""

SUFFIXES = {".py", ".md", ".toml", ".yaml", ".js", ".html", ".css", ""}
SKIPPED_FOLDERS = {"data", "data-remote", "findings", "pretrained", "workspace"}


def former_terms(path: str, text: str) -> list[str]:
    """Former terms in a file, as "path:line: found, use current"."""
    hits = []
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(r"former|deprecated|renamed_(keys|columns|recipe)\(", line, re.IGNORECASE):
            continue
        line = ALIASES.sub("", line)
        if path in ALLOWED:
            line = re.sub(ALLOWED[path], "", line)
        for pattern, current in FORMER_TERMS.items():
            hits += [
                f"{path}:{number}: {match[0]!r}, use {current}" for match in re.finditer(pattern, line, re.IGNORECASE)
            ]
    return hits


def tracked_files() -> list[str]:
    """Text files of the repository that Git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a Git repository")
    paths = [path for path in listed.stdout.decode().split("\0") if path and (ROOT / path).is_file()]
    return [
        path
        for path in paths
        if path.split("/")[0] not in SKIPPED_FOLDERS and (ROOT / path).suffix in SUFFIXES and path not in COMPATIBILITY
    ]


def test_former_terms_are_found():
    assert former_terms("a.py", "x = 1\nbad clips are set aside") == [
        "a.py:2: 'set aside', use failed or skipped, with the reason"
    ]
    assert former_terms("a.py", '_FORMER_FILE = "set_aside.json"') == []
    assert former_terms("a.py", "from fourdnex.geometry import normalise_pointmaps") == []
    assert len(former_terms("a.py", "colour_of_the_picture")) == 2


def test_no_former_terms_are_used():
    hits = []
    for path in tracked_files():
        hits += former_terms(path, (ROOT / path).read_text(encoding="utf-8", errors="replace"))
    assert hits == []
