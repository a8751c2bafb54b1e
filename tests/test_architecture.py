"""The directions of import, and the sizes of files and functions, held as data.

An arrow says what a part may import from the project; a part is the longest prefix that matches. What isn't listed
is not allowed, so a new part must be placed here on purpose.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "client_sdk", ROOT / "server")

ANYTHING = ("gradwatch", "gradwatch_server")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "gradwatch.errors": (),
    "gradwatch.frames": (),
    "gradwatch.glimpse": ("gradwatch.protocol",),
    "gradwatch.place": ("gradwatch.protocol",),
    "gradwatch.protocol": ("gradwatch.errors",),
    "gradwatch.shield": ("gradwatch.errors",),
    "gradwatch.config": ("gradwatch.errors", "gradwatch.protocol"),
    "gradwatch.health": ("gradwatch.protocol", "gradwatch.errors", "gradwatch.glimpse"),
    "gradwatch.torch_": (
        "gradwatch.errors",
        "gradwatch.frames",
        "gradwatch.glimpse",
        "gradwatch.place",
        "gradwatch.protocol",
        "gradwatch.shield",
    ),
    "gradwatch.outbox": ("gradwatch.errors", "gradwatch.frames", "gradwatch.protocol", "gradwatch.spool"),
    "gradwatch.transport": ("gradwatch.errors", "gradwatch.protocol"),
    "gradwatch": ("gradwatch",),
    "gradwatch_server.models": ("gradwatch.protocol",),
    "gradwatch_server.visitors": (),
    "gradwatch_server.histogram": (),
    "gradwatch_server.alerts": ("gradwatch_server.models",),
    "gradwatch_server.errors": ("gradwatch.errors",),
    "gradwatch_server.store": (
        "gradwatch.protocol",
        "gradwatch.errors",
        "gradwatch_server.models",
        "gradwatch_server.visitors",
        "gradwatch_server.errors",
        "gradwatch_server.histogram",
    ),
    "gradwatch_server.hub": ("gradwatch_server.models", "gradwatch_server.visitors"),
    "gradwatch_server": ANYTHING,
}

ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": ("gradwatch.torch_", "gradwatch.integrations", "gradwatch.demo", "gradwatch.doctor"),
    "websockets": ("gradwatch.transport", "gradwatch.testing"),
    "sqlalchemy": ("gradwatch_server.store",),
    "alembic": ("gradwatch_server.store",),
    "fastapi": ("gradwatch_server.app", "gradwatch_server.serving", "gradwatch_server.web"),
    "numpy": ("gradwatch", "gradwatch_server"),
}
"""Third-party packages that belong to one part."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    found = {}
    for source in SOURCES:
        for path in source.rglob("*.py"):
            if "examples" in path.parts:
                continue
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def part_of(module: str, parts: dict[str, tuple[str, ...]]) -> str:
    """The longest listed part that ``module`` lies in."""
    return max((p for p in parts if module == p or module.startswith(p + ".")), key=len)


def lies_in(module: str, parts: tuple[str, ...]) -> bool:
    """Whether ``module`` is one of ``parts`` or below one."""
    return any(module == part or module.startswith(part + ".") for part in parts)


@cache
def imports(module: str) -> tuple[str, ...]:
    """Dotted names of what a module imports anywhere in it, but for type checking only."""
    return tuple(_imports(module, modules()[module]))


def _imports(module: str, path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    skipped = {id(inner) for block in ast.walk(tree) if is_type_checking(block) for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in modules() else base


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_follow_the_arrows(module: str) -> None:
    part = part_of(module, MAY_IMPORT)
    allowed = (*MAY_IMPORT[part], part)
    wrong = [
        name
        for name in imports(module)
        if lies_in(name, ANYTHING) and not lies_in(name, allowed) and name != "gradwatch"
    ]
    assert not wrong, f"{module} imports {wrong}; {part} may import {allowed}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_third_party_packages_stay_where_they_belong(module: str) -> None:
    for package, parts in ONLY_IN.items():
        if not lies_in(module, parts):
            used = [name for name in imports(module) if lies_in(name, (package,))]
            assert not used, f"{module} imports {used}; only {parts} may"


def test_the_client_never_imports_the_server() -> None:
    for module in modules():
        if lies_in(module, ("gradwatch",)):
            assert not [name for name in imports(module) if lies_in(name, ("gradwatch_server",))], module


@pytest.mark.parametrize("path", sorted(modules().values()), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES, "it is usually two things: find the seam"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1 - docstring_lines(node)
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    doc = ast.get_docstring(node, clean=False)
    return len(doc.splitlines()) if doc else 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "static" / "js").rglob("*.js")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_scripts_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
