"""The floors: import contracts hold, and core and flow can touch nothing even by a late import."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_contracts_are_the_ones_of_the_plan():
    contracts = {one["name"]: one for one in SETTINGS["tool"]["importlinter"]["contracts"]}
    assert contracts["floors"]["exhaustive"] is True
    assert contracts["floors"]["layers"] == [
        "__main__",
        "wiring",
        "service | cli | client | adapters | config",
        "flow",
        "core",
        "pb",
    ]
    banned = contracts["core and flow touch nothing outside"]
    assert banned["source_modules"] == ["cryptosvc.core", "cryptosvc.flow"]
    assert {
        "os",
        "io",
        "socket",
        "time",
        "threading",
        "asyncio",
        "secrets",
        "subprocess",
        "grpc",
        "sqlalchemy",
        "pkcs11",
    } <= set(banned["forbidden_modules"])
    assert not any("ignore_imports" in one for one in contracts.values())


TOUCHING = {"open", "eval", "exec", "compile", "__import__", "input", "breakpoint", "print"}
CORE_AND_FLOW = sorted(
    path for folder in ("core", "flow") for path in (REPOSITORY / "cryptosvc" / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", CORE_AND_FLOW, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_core_and_flow_open_run_and_print_nothing(path):
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint(TOUCHING)


def test_nothing_relies_on_assertions_being_on_for_refusals():
    # `python -O` removes asserts; a rule of the Code may not go with them.
    for path in CORE_AND_FLOW:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Raise) and "AssertionError" in ast.unparse(node)), path
