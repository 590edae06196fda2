"""Shell completion: the scripts parse, and complete commands, options and choices."""

import shutil
import subprocess

import pytest

from fourdnex.cli import build_parser
from fourdnex.commands import COMMANDS
from fourdnex.commands.completion import completion_script

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {shell: completion_script(build_parser(COMMANDS), shell) for shell in SHELLS}


def complete_in_bash(script: str, *words: str) -> list[str]:
    """What bash offers after `words`, the last of which is being typed."""
    line = " ".join(f"'{word}'" for word in words)
    commands = f"""
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
        $(complete -p fourdnex | sed 's/.* -F \\([^ ]*\\) .*/\\1/') fourdnex '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(["bash", "-c", f"{script}\n{commands}"], capture_output=True, text=True, check=True)
    return answer.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_commands_options_and_choices(scripts, shell):
    assert all(word in scripts[shell] for word in ("pretrain-depth", "first-frame-geometry", "nerfstudio"))


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_parse(scripts, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([shell, "-n"], input=scripts[shell], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_commands(scripts):
    assert complete_in_bash(scripts["bash"], "fourdnex", "gen") == ["generate"]


def test_bash_completes_options(scripts):
    assert complete_in_bash(scripts["bash"], "fourdnex", "train", "--sigma-") == ["--sigma-shift", "--sigma-one-prob"]


def test_bash_completes_choices(scripts):
    assert complete_in_bash(scripts["bash"], "fourdnex", "export", "scene", "out", "--to", "n") == ["nerfstudio", "npz"]


def test_bash_completes_files(scripts, tmp_path, monkeypatch):
    (tmp_path / "photographs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_in_bash(scripts["bash"], "fourdnex", "generate", "photo") == ["photographs"]
