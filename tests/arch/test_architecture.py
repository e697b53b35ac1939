"""What the house promises about its own shape, and import-linter cannot see."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "cryptosvc"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "pb" not in path.relative_to(PACKAGE).parts)
NAMES = [path.relative_to(PACKAGE).as_posix() for path in MODULES]

MAKERS = {
    "Authorised": {"core/judge.py"},
    "Claim": {"adapters/store/claims.py"},
    "Receipt": {"adapters/store/ledger.py", "adapters/store/recording.py"},
    "Checked": {"core/check.py"},
    "Produced": {"adapters/hsm/work.py"},
}
"""Values of the corridor, and the only modules that may make them: skipping a step is then a type error."""

TOUCHES = {"open", "input", "print", "eval", "exec", "compile", "__import__", "breakpoint"}
"""Builtins with which core and flow could touch the outside past the import contracts."""

LINES_AT_MOST = 400
LOOKED_AT = {"adapters/store/ledger.py": 560}
"""Longer modules somebody looked at hard, with how long they may be."""
FUNCTION_LINES_AT_MOST = 66

VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"}


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id
            elif isinstance(function, ast.Attribute) and not isinstance(function.value, ast.Call):
                owner = function.value.id if isinstance(function.value, ast.Name) else ""
                if not owner.endswith("_pb2"):
                    yield function.attr


@pytest.mark.parametrize("value", MAKERS)
def test_a_value_of_the_corridor_is_made_in_one_place(value: str) -> None:
    made_in = {
        name
        for name, path in zip(NAMES, MODULES, strict=True)
        if not name.startswith(("service/", "client/", "cli/")) and value in calls(path)
    }
    assert made_in
    assert made_in <= MAKERS[value]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("core/", "flow/"))])
def test_core_and_flow_touch_nothing_by_builtin(name: str) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse((PACKAGE / name).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & TOUCHES


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_functions_fit(name: str) -> None:
    text = (PACKAGE / name).read_text()
    assert text.count("\n") <= LOOKED_AT.get(name, LINES_AT_MOST)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES_AT_MOST, node.name


@pytest.mark.parametrize("name", NAMES)
def test_modules_say_what_they_are_in_name_and_docstring(name: str) -> None:
    assert not VAGUE & set(name.removesuffix(".py").split("/"))
    assert ast.get_docstring(ast.parse((PACKAGE / name).read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_each_suppression_has_a_reason(name: str) -> None:
    for number, line in enumerate((PACKAGE / name).read_text().splitlines(), start=1):
        found = re.search(r"# (noqa|type: ignore)(: [A-Z0-9, ]+|\[[a-z, -]+\])?(?P<reason>.*)", line)
        assert found is None or re.search(r"\w{3,}", found["reason"]), f"{name}:{number}"


def test_no_test_file_has_the_name_of_another() -> None:
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_each_runtime_dependency_is_in_the_decision_record() -> None:
    wanted = [
        re.split(r"[\[=<>~ ]", line)[0]
        for line in (REPOSITORY / "requirements/runtime.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    record = (REPOSITORY / "docs/adr/0001-dependencies.md").read_text()
    assert wanted
    assert [name for name in wanted if f"| {name} |" not in record] == []


def test_each_test_the_assurance_page_names_exists() -> None:
    page = (REPOSITORY / "docs/assurance.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for file, function in named:
        path = REPOSITORY / file
        assert path.is_file(), file
        assert not function or re.search(rf"^(async )?def {function}\(", path.read_text(), re.MULTILINE), (
            f"{file}::{function}"
        )


def test_each_clause_the_assurance_page_covers_is_cited_in_code_or_policy() -> None:
    page = (REPOSITORY / "docs/assurance.md").read_text()
    covered = set(re.findall(r"^\| (G\d+\.\d+[A-Z]?)", page, re.MULTILINE))
    assert len(covered) > 10
    cited = "".join(path.read_text() for path in [*MODULES, *(REPOSITORY / "policies").glob("*.cedar")])
    assert [clause for clause in sorted(covered) if clause not in cited] == []


def test_the_import_contracts_are_the_ones_agreed() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    by_name = {contract["name"]: contract for contract in contracts}
    assert by_name["floors"]["exhaustive"] is True
    assert by_name["floors"]["layers"] == [
        "__main__",
        "wiring",
        "service | cli | client | adapters | config",
        "flow",
        "core",
        "pb",
    ]
    assert {"os", "socket", "threading", "time", "random", "pkcs11", "grpc"} <= set(
        by_name["core and flow touch nothing outside"]["forbidden_modules"]
    )
