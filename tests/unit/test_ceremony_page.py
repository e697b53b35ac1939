"""docs/ceremonies.md is about this code: its tables are those of the code."""

from cryptosvc.core.ceremony.difference import BY_NATURE
from cryptosvc.core.ceremony.rows import ROWS, ActKind, ActRow, Role
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "ceremonies.md").read_text()


def codes(names) -> str:
    return ", ".join(f"`{name}`" for name in names)


def act_row(kind: ActKind, row: ActRow) -> str:
    others = [field.name + ("" if field.required else "?") for field in row.others]
    return f"| `{kind}` | {codes(row.makes)} | {codes(row.needs)} | {codes(others)} | {row.clause} | {codes(sorted(row.results))} |"


def act_table() -> list[str]:
    return [
        "| act | makes | needs | other keys | clause | results |",
        "|---|---|---|---|---|---|",
        *(act_row(kind, row) for kind, row in ROWS.items()),
    ]


def nature_table() -> list[str]:
    return ["| field | why |", "|---|---|", *(f"| `{field}` | {why} |" for field, why in BY_NATURE.items())]


def test_the_page_has_the_table_of_acts():
    assert "\n".join(act_table()) in PAGE
    assert len(ROWS) == len(ActKind)


def test_the_page_has_the_table_of_what_differs_by_nature():
    assert "\n".join(nature_table()) in PAGE


def test_the_page_names_every_role():
    assert all(f"`{role}`" in PAGE for role in Role)
