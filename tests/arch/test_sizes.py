"""Modules stay small enough to be read at one sitting; a longer one says why."""

import ast

import pytest

from tests.conftest import REPOSITORY

LINES_AT_MOST = 400
FUNCTION_LINES_AT_MOST = 80

# module: why it is longer
LONGER_MODULES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}

MODULES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (REPOSITORY / "cryptosvc").rglob("*.py")
    if "pb" not in path.relative_to(REPOSITORY).parts
)


def test_no_module_is_longer_than_it_says():
    longer = {name for name in MODULES if len((REPOSITORY / name).read_text().splitlines()) > LINES_AT_MOST}
    assert longer == set(LONGER_MODULES)
    assert all(LONGER_MODULES.values())


def test_no_function_is_longer_than_a_screen_or_two():
    longer = set()
    for name in MODULES:
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_AT_MOST:
                    longer.add(f"{name}:{node.name}")
    assert longer == set(LONGER_FUNCTIONS)


@pytest.mark.parametrize("folder", ["cryptosvc", "tests", "scripts"])
def test_nothing_is_called_by_a_name_that_says_nothing(folder):
    found = {path.stem for path in (REPOSITORY / folder).rglob("*") if "__pycache__" not in path.parts}
    assert found.isdisjoint(BANNED_NAMES)


def test_every_module_says_what_it_is_for():
    silent = [
        name
        for name in MODULES
        if (REPOSITORY / name).read_text().strip()
        and not ast.get_docstring(ast.parse((REPOSITORY / name).read_text()))
    ]
    assert silent == []
