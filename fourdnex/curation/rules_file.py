"""The rules file: all rules of curation as TOML, one table per stage."""

from __future__ import annotations

import os
import textwrap
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from fourdnex.curation.rules import STAGE_RULES, Rules
from fourdnex.curation.set_rules import DuplicateRules, SetRules, TagRules
from fourdnex.io.files import atomic_path

_SECTIONS: dict[str, type] = {**STAGE_RULES, "duplicates": DuplicateRules, "tags": TagRules}
_FREE = ("quotas", "splits")  # their keys are checked by `SetRules`


def read_rules(path: str | os.PathLike[str], **overrides: Any) -> tuple[Rules, SetRules]:
    """Read a rules file. What it does not name has its default; "none" switches a rule off.

    Args:
        path: the file.
        overrides: thresholds that replace those of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not valid TOML, or has an unknown table, key or value; the message names it.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected TOML, got {error}") from error
    known = (*_SECTIONS, *_FREE)
    for section, content in data.items():
        if section not in known:
            raise ValueError(f"{path}: expected the tables {', '.join(known)}, got {section!r}")
        if not isinstance(content, dict):
            raise ValueError(f"{path}: {section}: expected a table, got {content!r}")
        if section in _SECTIONS:
            names = [rule.name for rule in fields(_SECTIONS[section])]
            if unknown := [key for key in content if key not in names]:
                raise ValueError(f"{path}: [{section}]: expected {', '.join(names)}, got {', '.join(unknown)}")
    thresholds = {key: value for section in STAGE_RULES for key, value in data.get(section, {}).items()}
    try:
        rules = Rules(**(thresholds | overrides))
        duplicates: dict[str, Any] = {
            key: None if value == "none" else value for key, value in data.get("duplicates", {}).items()
        }
        whole: dict[str, Any] = {name: data[name] for name in _FREE if name in data}
        set_rules = SetRules(duplicates=DuplicateRules(**duplicates), tags=TagRules(**data.get("tags", {})), **whole)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return rules, set_rules


def write_rules(path: str | os.PathLike[str], rules: Rules | None = None, set_rules: SetRules | None = None) -> None:
    """Write a rules file with every rule and its meaning, atomically.

    Raises:
        FileExistsError: there is a file, which somebody may have edited.
    """
    if Path(path).exists():
        raise FileExistsError(f"{path}: expected no such file")
    with atomic_path(path) as temporary:
        temporary.write_text(rules_text(rules or Rules(), set_rules or SetRules()), encoding="utf-8")


def rules_text(rules: Rules, set_rules: SetRules) -> str:
    """The rules as TOML with comments."""
    from fourdnex.commands.options import field_docs

    lines = ['# Rules of curation. A threshold is a number, a percentile of the data set such as "p5", or "none".']
    values: dict[str, Any] = dict.fromkeys(STAGE_RULES, rules)
    values |= {"duplicates": set_rules.duplicates, "tags": set_rules.tags}
    for section, config in _SECTIONS.items():
        lines += ["", f"[{section}]"]
        docs = field_docs(config)
        for rule in fields(config):
            lines += [f"# {line}" for line in textwrap.wrap(docs[rule.name], 110)]
            lines.append(f"{rule.name} = {_literal(getattr(values[section], rule.name))}")
    lines += [
        "",
        "[quotas]",
        "# Max share of the accepted clips (below 1) or max number of clips, such as indoor = 0.3.",
    ]
    lines += [f'"{tag}" = {_literal(quota)}' for tag, quota in set_rules.quotas.items()]
    lines += ["", "[splits]", "# Shares of train, val and test, which sum to 1. Clips of one video are in one split."]
    lines += [f"{split} = {_literal(share)}" for split, share in set_rules.splits.items()]
    return "\n".join(lines) + "\n"


def _literal(value: str | float | None) -> str:
    """A value as TOML."""
    if value is None:
        return '"none"'
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"
