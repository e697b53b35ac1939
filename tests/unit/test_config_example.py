"""config.example.toml and config/settings.py say the same: every setting is there, under its table, with its default."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from cryptosvc.config.reading import Section
from cryptosvc.config.settings import PolicySettings, Settings, read_settings
from cryptosvc.core.content.duis.profile import MAX_DEPTH, MAX_OCTETS
from cryptosvc.core.content.x509.profile import default_profile

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "config.example.toml"
_HEADER = re.compile(r"(?:# )?\[{1,2}([a-z0-9_.]+)\]{1,2}")
_SETTING = re.compile(r"(# )?([a-z0-9_]+) = (.+)")

X509 = default_profile()
CORE = {f"x509.{one.name}": getattr(X509, one.name) for one in fields(X509)} | {
    "duis.max_octets": MAX_OCTETS,
    "duis.max_depth": MAX_DEPTH,
}
"""Defaults of the settings that keep core's where they are left out."""


@dataclass(frozen=True)
class Shown:
    """A line of the example.

    Args:
        name: table and setting.
        value: as TOML has it; a list as a set, since none here has an order.
        in_force: not commented out.

    """

    name: str
    value: object
    in_force: bool


def shown(text: str) -> list[Shown]:
    """Every setting the example shows, in force or commented out."""
    table, found = "", []
    for line in text.splitlines():
        if header := _HEADER.fullmatch(line):
            table = header[1]
        elif setting := _SETTING.fullmatch(line):
            value = tomllib.loads(f"it = {setting[3]}")["it"]
            found.append(Shown(f"{table}.{setting[2]}", _plain(value), setting[1] is None))
    return found


def settings(model: type[Section] = Settings, table: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting there is, by table and the name it has in a file; tables themselves are none."""
    for attribute, field in model.model_fields.items():
        name = f"{table}{field.alias or attribute}"
        inner = _section(field.annotation)
        if inner is None:
            yield name, field
        else:
            yield from settings(inner, f"{name}.")


def _section(annotation: object) -> type[Section] | None:
    """The table an annotation means: one, one or none, or any number of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = [_section(argument) for argument in getattr(annotation, "__args__", ())]
    return next((one for one in inner if one is not None), None)


def _plain(value: object) -> object:
    return frozenset(value) if isinstance(value, list | tuple | set | frozenset) else value


def differences(text: str) -> list[str]:
    """What example and settings do not agree on, a line each."""
    lines = shown(text)
    known = dict(settings())
    found = [f"{line.name} is no setting" for line in lines if line.name not in known]
    for name, field in known.items():
        mine = [line for line in lines if line.name == name]
        if not mine:
            found.append(f"{name} is not shown")
            continue
        if field.is_required():
            # of a table that is not in force, as [duis], nothing can be
            if not any(line.in_force for line in mine) and not name.startswith(OPTIONAL_TABLES):
                found.append(f"{name} is required and commented out")
            continue
        default = _plain(CORE.get(name, field.default))
        if default in (None, frozenset()):
            # nothing to show: an example is, and must not be in force
            if name not in CHOSEN and any(line.in_force and line.value != default for line in mine):
                found.append(f"{name} has no default, and its example is in force")
        elif any(line.value != default for line in mine):
            found.append(f"{name} has another default than is shown: {default}")
    return found


OPTIONAL_TABLES = (
    "duis.",
    "incident.notify.",
    "outside.",
    "time.sources.",
    "policy.information_classification.",
    "relevant_system.",
    "smets1.models.",
    "smets1.add_credit.",
    "watch.rules.",
    "watch.receivers.",
    "witnesses.",
)
"""Not in force in the example, so nothing of them can be."""

CHOSEN = {"modules.pin_file"}
"""Exactly one of two must be in force."""


def test_every_setting_is_shown_with_its_default_and_nothing_else_is():
    assert differences(FILE.read_text()) == []
    assert len(dict(settings())) > 70


def test_rows_of_tables_that_have_a_default_are_those():
    stated = read_settings(FILE).policy.accepted_standards
    assert stated == PolicySettings.model_fields["accepted_standards"].default


def test_leaving_out_whatever_may_be_left_out_changes_nothing(tmp_path: Path):
    required = {name for name, field in settings() if field.is_required()} | CHOSEN
    kept, table = [], ""
    for line in FILE.read_text().splitlines():
        header, setting = _HEADER.fullmatch(line), _SETTING.fullmatch(line)
        if header is not None and not line.startswith("#"):
            table = header[1]
        if header is None and setting is not None and f"{table}.{setting[2]}" not in required:
            continue
        kept.append(line)
    bare = tmp_path / "bare.toml"
    bare.write_text("\n".join(kept))
    short, whole = (read_settings(path).model_dump() for path in (bare, FILE))
    assert len(kept) < len(FILE.read_text().splitlines()) - 20
    assert _without_paths(short) == _without_paths(whole)


def _without_paths(value: object) -> object:
    """Relative paths are taken from the file's folder, and the two files are in different ones."""
    match value:
        case dict():
            return {name: _without_paths(inner) for name, inner in value.items()}
        case tuple() | list():
            return [_without_paths(inner) for inner in value]
        case Path():
            return value.name
        case str() if value.startswith("sqlite:///"):
            return value.rpartition("/")[2]
        case _:
            return value


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_batch_items = 256", "max_batch_items = 255", "server.max_batch_items has another default"),
        ("# crl_entries = 4000", "# crl_entries = 4001", "x509.crl_entries has another default"),
        ("# crl_entries = 4000", "", "x509.crl_entries is not shown"),
        ("# max_depth = 32", "# max_depth = 33", "duis.max_depth has another default"),
        ("# crl_entries", "# crl_entrees", "x509.crl_entrees is no setting"),
        ('anchor = "head.anchor"', '# anchor = "head.anchor"', "store.anchor is required"),
        ("# known_oca", "known_oca", "x509.known_oca has no default, and its example is in force"),
        ("workers = 0\n", "", "server.workers is not shown"),
    ],
)
def test_drift_would_be_noticed(old: str, new: str, said: str):
    text = FILE.read_text()
    assert text.count(old) == 1
    assert any(line.startswith(said) for line in differences(text.replace(old, new)))
