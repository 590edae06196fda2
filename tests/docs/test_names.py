"""Every file, link, Python name and environment variable in the documentation exists."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

from fourdnex.telemetry import OPT_OUT_VARIABLES
from tests.docs.pages import ROOT, TEXT, blocks, spans, table


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXT.items():
        in_text = [span.split()[1] for span in spans(page) if re.fullmatch(r"make [a-z-]+", span)]
        in_blocks = re.findall(r"^make ([a-z-]+)", "\n".join(blocks(page, "")), re.MULTILINE)
        assert {*in_text, *in_blocks} <= targets, (page, len(text))


def test_links_and_images_resolve():
    broken = []
    for page, text in TEXT.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = (ROOT / page).parent / name if name else ROOT / page
            if not file.exists():
                broken.append((page, target))
            elif anchor:
                headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                broken += [] if anchor in anchors else [(page, target)]
    assert broken == []


def test_named_files_exist():
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"data", "workspace"}
    mentioned = {
        (page, span)
        for page in TEXT
        for span in spans(page)
        if re.fullmatch(r"[\w./-]+", span) and "/" in span and span.split("/")[0] in tops
    }
    missing = [(page, span) for page, span in sorted(mentioned) if not (ROOT / span).exists()]
    assert missing == []


def test_named_python_objects_can_be_imported():
    missing = []
    for page in TEXT:
        python = re.findall(r"^from ([\w.]+) import (.+)$", "\n".join(blocks(page, "python")), re.MULTILINE)
        names = [f"{module}.{name.strip()}" for module, listed in python for name in listed.split(",")]
        names += [span for span in spans(page) if re.fullmatch(r"(fourdnex|orchestration|benchmarks)(\.\w+)+", span)]
        missing += [(page, name) for name in names if not resolves(name)]
    assert missing == []


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_python_blocks_compile():
    for page in TEXT:
        for number, body in enumerate(blocks(page, "python")):
            compile(body, f"{page}, block {number}", "exec")


# Variables between processes of the project, and of tests.
_INTERNAL = {"FOURDNEX_DAGSTER_RUN", "FOURDNEX_ROOT"}
_CODE = [path for folder in ("fourdnex", "orchestration", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def test_fourdnex_variables_are_those_that_the_code_reads():
    in_code = set(re.findall(r'"(FOURDNEX_[A-Z_]+)"', "\n".join(path.read_text() for path in _CODE))) - _INTERNAL
    in_docs = set(re.findall(r"\bFOURDNEX_[A-Z_]+\b", "\n".join(TEXT.values())))
    assert in_docs == in_code
    assert {row[0] for row in table("docs/graph.md", "variable", "default")} == in_code | {"MLFLOW_TRACKING_URI"}


def test_library_variables_are_set_here_or_read_by_the_library():
    """Each occurs in the code or configuration here, or in the source of the library that reads it."""
    sources = "\n".join(
        path.read_text() for path in [*_CODE, ROOT / "Makefile", ROOT / "mlflow" / "server.env.example"]
    )
    libraries = {"MLFLOW_TRACKING_": "mlflow", "HF_": "huggingface_hub", "DVC_": "dvc"}
    for name in set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", " ".join(s for p in TEXT for s in spans(p)))):
        library = next((package for prefix, package in libraries.items() if name.startswith(prefix)), None)
        if name in sources or library is None:
            continue
        (folder,) = importlib.import_module(library).__path__
        assert any(name in path.read_text(errors="replace") for path in Path(folder).rglob("*.py")), name


def test_named_extras_and_test_markers_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = "\n".join(TEXT.values())
    assert set(re.findall(r"fourdnex\[([\w,]+)\]", text)) <= set(project["project"]["optional-dependencies"])
    markers = {marker.split(":")[0] for marker in project["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(re.findall(r"pytest -m (\w+)", text)) <= markers


def test_postgresql_driver_is_the_one_that_sqlalchemy_uses():
    from sqlalchemy import make_url

    (uri,) = re.findall(r"postgresql\S*", (ROOT / "mlflow" / "server.env.example").read_text())
    assert f"'{make_url(uri).get_dialect().driver}[binary]'" in TEXT["mlflow/README.md"]


def test_telemetry_variables_are_documented():
    assert [name for name in OPT_OUT_VARIABLES if not any(f"`{name}`" in text for text in TEXT.values())] == []
