"""What is written beside the code is about this code: reasons, decision records, the assurance page."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "cryptosvc"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "pb" not in path.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_each_suppression_has_a_reason(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        found = re.search(r"# (noqa|type: ignore)(: [A-Z0-9, ]+|\[[a-z, -]+\])?(?P<reason>.*)", line)
        assert found is None or re.search(r"\w{3,}", found["reason"]), number


def test_no_test_file_has_the_name_of_another() -> None:
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_each_runtime_dependency_is_in_the_decision_record() -> None:
    wanted = [
        re.split(r"[\[=<>~; ]", line)[0]
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


def test_each_row_of_the_assurance_page_names_a_test_and_a_table_that_exist() -> None:
    rows = [
        line.split("|")[1:-1]
        for line in (REPOSITORY / "docs/assurance.md").read_text().splitlines()
        if re.match(r"\| G\d", line)
    ]
    assert len(rows) > 20
    for clauses, claim, argument, tests in rows:
        assert all(
            re.fullmatch(r"G\d+\.\d+[A-Z]?(\([a-z]+\))*", one.strip()) for one in clauses.split(",")
        ), clauses
        assert claim.strip(), clauses
        assert argument.strip(), clauses
        assert re.search(r"`tests/[\w/]+\.py(::\w+)?`", tests), clauses
        for table in re.findall(r"`([\w-]+\.toml)`", tests):
            assert (REPOSITORY / "policies/tests" / table).is_file(), table


def test_whoever_is_forbidden_something_is_told_the_clause() -> None:
    read_or_walk = [
        path for path in MODULES if {"content", "flow"} & set(path.relative_to(PACKAGE).parent.parts[:2])
    ]
    forbidding = 0
    for path in [*read_or_walk, PACKAGE / "core/judge.py", PACKAGE / "core/supply.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Forbidden":
                forbidding += 1
                given = {keyword.arg for keyword in node.keywords}
                assert "clause" in given, f"{path.relative_to(PACKAGE)}:{node.lineno}"
    assert forbidding > 15


def test_each_policy_of_this_repository_cites_a_clause_the_assurance_page_has() -> None:
    page = (REPOSITORY / "docs/assurance.md").read_text()
    cited = {
        clause
        for path in (REPOSITORY / "policies").glob("*.cedar")
        for clause in re.findall(r'@clause\("(G\d+\.\d+)', path.read_text())
    }
    assert len(cited) > 10
    assert [clause for clause in sorted(cited) if clause not in page] == []
