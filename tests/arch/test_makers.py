"""Values that prove a step was taken are made by that step and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# value: (module that defines it, files or folders that may make it)
MAKERS = {
    "Authorised": ("cryptosvc.core.judge", {"cryptosvc/core/judge.py"}),
    "Claim": ("cryptosvc.core.record", {"cryptosvc/adapters/store/", "tests/fakes/ledger.py"}),
    "Receipt": ("cryptosvc.core.record", {"cryptosvc/adapters/store/", "tests/fakes/ledger.py"}),
    "Produced": ("cryptosvc.core.record", {"cryptosvc/adapters/hsm/", "tests/fakes/hsm.py"}),
    "Checked": ("cryptosvc.core.check", {"cryptosvc/core/check.py"}),
    "Case": ("cryptosvc.core.case", {"cryptosvc/flow/gather.py"}),
    "Signed": ("cryptosvc.flow.sign", {"cryptosvc/flow/sign.py"}),
}
COPIERS = {"replace", "copy", "deepcopy", "__new__"}


def sources() -> list[Path]:
    """The service's own modules and the fakes; generated stubs have names of their own."""
    found = [path for folder in ("cryptosvc", "tests/fakes") for path in (REPOSITORY / folder).rglob("*.py")]
    return [path for path in found if "pb" not in path.relative_to(REPOSITORY).parts]


def bindings(tree: ast.Module, module: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Local names: of things imported from modules, and of modules. Things defined here count as imported from here."""
    things = {node.name: (module, node.name) for node in tree.body if isinstance(node, ast.ClassDef)}
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                things[one.asname or one.name] = (node.module, one.name)
                modules[one.asname or one.name] = f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            for one in node.names:
                modules[one.asname or one.name] = one.name
    return things, modules


def resolved(
    expression: ast.expr, things: dict[str, tuple[str, str]], modules: dict[str, str]
) -> tuple[str, str] | None:
    """(module, name) an expression stands for, where it is an imported thing."""
    if isinstance(expression, ast.Name):
        return things.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = modules.get(ast.unparse(expression.value))
        return (owner, expression.attr) if owner else None
    return None


def made_in(source: str, module: str) -> Iterator[str]:
    """Names of guarded values that the source makes: by a call, or by handing the class to something that may call it."""
    tree = ast.parse(source)
    things, modules = bindings(tree, module)
    guarded = {(defined, name) for name, (defined, _) in MAKERS.items()}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        suspects = [node.func]
        if called not in {"isinstance", "issubclass"}:
            suspects += [*node.args, *(one.value for one in node.keywords)]
        if called == "__new__" or called in COPIERS:
            suspects.append(node.func.value if isinstance(node.func, ast.Attribute) else node.func)
        for suspect in suspects:
            found = resolved(suspect, things, modules)
            if found in guarded:
                yield found[1]


def test_guarded_values_are_made_by_their_makers_only():
    strays = []
    for path in sources():
        name = path.relative_to(REPOSITORY).as_posix()
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        strays += [
            f"{name} makes {value}"
            for value in made_in(path.read_text(), module)
            if not any(
                name == maker or (maker.endswith("/") and name.startswith(maker))
                for maker in MAKERS[value][1]
            )
        ]
    assert strays == []


@pytest.mark.parametrize("value", MAKERS)
def test_every_guarded_value_exists_and_is_made_somewhere(value):
    defined, makers = MAKERS[value]
    source = REPOSITORY / (defined.replace(".", "/") + ".py")
    assert f"class {value}" in source.read_text()
    made = [
        path
        for path in sources()
        if value
        in made_in(
            path.read_text(), path.relative_to(REPOSITORY).as_posix().removesuffix(".py").replace("/", ".")
        )
    ]
    assert made, f"nobody makes {value}; is {makers} out of date?"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from cryptosvc.core.record import Claim\nClaim(a, b, c)", ["Claim"]),
        ("from cryptosvc.core.record import Claim as C\nC(a)", ["Claim"]),
        ("from cryptosvc.core import record\nrecord.Receipt(a=1)", ["Receipt"]),
        ("import cryptosvc.core.judge\ncryptosvc.core.judge.Authorised(x)", ["Authorised"]),
        ("from cryptosvc.core.record import Claim\nlist(map(Claim, a, b, c))", ["Claim"]),
        ("from cryptosvc.core.record import Claim\nobject.__new__(Claim)", ["Claim"]),
        ("from cryptosvc.core.record import Claim\nClaim.__new__(Claim)", ["Claim", "Claim"]),
        ("from cryptosvc.core.record import Claim\nisinstance(x, Claim)", []),
        ("from cryptosvc.core.record import Claim\ndef f(x: Claim) -> Claim: return x", []),
        ("from cryptosvc.pb.v1 import sign_pb2\nsign_pb2.Receipt(a=1)", []),
        ("class Claim: ...\nClaim()", []),
    ],
)
def test_the_search_finds_what_it_should_and_nothing_else(source, found):
    assert list(made_in(source, "cryptosvc.somewhere")) == found
