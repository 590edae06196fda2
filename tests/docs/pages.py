"""Pages of the documentation for the tests: code blocks, backquoted spans, tables, and parsers of the commands."""

import argparse
import re
from pathlib import Path

from fourdnex.cli import build_parser
from fourdnex.commands.completion import subparsers

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "mlflow" / "README.md"]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


def flat(page: str) -> str:
    """Text of a page with every run of whitespace as one space."""
    return " ".join(TEXT[page].split())


def blocks(page: str, *languages: str) -> list[str]:
    """Code blocks of a page in the given languages."""
    return [body for language, body in _FENCE.findall(TEXT[page]) if language in languages]


def spans(page: str) -> list[str]:
    """Inline code of a page."""
    return _SPAN.findall(_FENCE.sub("", TEXT[page]))


def shell_lines(page: str) -> list[str]:
    """Lines of the shell blocks of a page, with continuation lines joined."""
    lines = "\n".join(blocks(page, "", "sh", "bash")).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def tables(page: str) -> list[list[list[str]]]:
    """All tables of a page as rows of cells, header first."""
    found = re.findall(r"(?:^\|.*\n)+", TEXT[page] + "\n", re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in table.splitlines()] for table in found]
    cells = [[[cell.strip() for cell in row] for row in table] for table in rows]
    return [[row for row in table if not all(re.fullmatch(":?-+:?", cell) for cell in row)] for table in cells]


def table(page: str, *head: str) -> list[list[str]]:
    """Rows, without the header, of the only table of a page whose header starts with the cells `head`."""
    (match,) = [rows for rows in tables(page) if tuple(rows[0][: len(head)]) == head]
    return match[1:]


def inline_code(text: str) -> list[str]:
    """Inline code of a table cell or sentence."""
    return _SPAN.findall(text)


def command_parser(command: str) -> argparse.ArgumentParser:
    """Parser of a command, without the name of the command."""
    return subparsers(build_parser([command.split()[0]]))[command]
