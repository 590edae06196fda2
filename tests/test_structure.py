"""Structure of the code: size of modules, docstrings, import circles, and the direction of imports between rooms."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 350
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("fourdnex", "orchestration")
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of this repository that a module imports anywhere: at the top, in functions, and for type checking."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return frozenset(found & MODULES.keys()) - {module}


def reachable(module: str) -> set[str]:
    """Modules that a module imports, directly or through others."""
    seen: set[str] = set()
    todo = list(imports(module))
    while todo:
        if (following := todo.pop()) not in seen:
            seen.add(following)
            todo += imports(following)
    return seen


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a module and methods of its classes, not those nested in functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child)


def is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in function.decorator_list)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_small_and_documented(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert not text or ast.get_docstring(tree(module)), "no module docstring"
    undocumented = [
        function.name
        for function in functions(tree(module))
        if not (function.name.startswith("__") or is_overload(function) or ast.get_docstring(function))
    ]
    assert undocumented == []


def test_there_are_no_import_circles():
    assert [module for module in MODULES if module in reachable(module)] == []


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("fourdnex", "orchestration"),
        ("fourdnex.io", "fourdnex.scene"),
        ("fourdnex.model", "fourdnex.clip"),
        ("fourdnex.evaluation", "fourdnex.training"),
        ("fourdnex.training", "fourdnex.pretraining"),
        ("fourdnex.latents.encoders", "fourdnex.model.pipeline"),
        ("fourdnex.scene", "fourdnex.rendering"),
    ],
)
def test_imports_go_one_way(room, never):
    def belongs(module: str, package: str) -> bool:
        return module == package or module.startswith(f"{package}.")

    importers = [module for module in MODULES if belongs(module, room)]
    assert [module for module in importers if any(belongs(name, never) for name in imports(module))] == []
