"""The pages of the documentation, and how tests read them: code blocks, backquoted spans, tables; and the parsers."""

import argparse
import re
from pathlib import Path

from fourdnex.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "mlflow" / "README.md"]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


def blocks(page: str, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(TEXT[page]) if language in languages]


def spans(page: str) -> list[str]:
    """What stands in single backquotes, outside code blocks."""
    return _SPAN.findall(_FENCE.sub("", TEXT[page]))


def shell_lines(page: str) -> list[str]:
    lines = "\n".join(blocks(page, "", "sh", "bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def tables(page: str) -> list[list[list[str]]]:
    """Every table of a page as rows of cells, the head first."""
    found = re.findall(r"(?:^\|.*\n)+", TEXT[page] + "\n", re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in table.splitlines()] for table in found]
    cells = [[[cell.strip() for cell in row] for row in table] for table in rows]
    return [[row for row in table if not all(re.fullmatch(":?-+:?", cell) for cell in row)] for table in cells]


def table(page: str, *head: str) -> list[list[str]]:
    """The rows of the one table whose head begins with `head`."""
    (found,) = [rows for rows in tables(page) if tuple(rows[0][: len(head)]) == head]
    return found[1:]


def named(cell: str) -> list[str]:
    return _SPAN.findall(cell)


def own_parser(command: str) -> argparse.ArgumentParser:
    actions = build_parser([command])._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices[command]
