"""`[[transfer_body]]` of `governance.toml`: who approves transfers of material that the SMKI PMA is not asked for.

Source: Smart Energy Code G2.22I.
"""

import re
from collections.abc import Mapping

from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import DEVICE_CLASSES, KEY_CLASSES
from cryptosvc.core.transfer.bodies import PMA, Body, is_connected

_FIELDS = frozenset({"name", "classes", "members"})
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MEMBERS_AT_LEAST = 2
_CLASSES = frozenset(name for name in KEY_CLASSES if not is_connected(name)) - DEVICE_CLASSES
"""Device keys move with what they are wrapped under, so nobody approves them by themselves."""


def read_bodies(found: object) -> tuple[Body, ...]:
    """Read the rows; Malformed `governance/field` where one is not understood, or a class has two bodies."""
    if not isinstance(found, list):
        raise _fault("is a list of rows: who approves transfers of which classes")
    bodies = tuple(_body(number, row) for number, row in enumerate(found, 1))
    names = [one.name for one in bodies]
    classes = [key_class for one in bodies for key_class in one.classes]
    if len(set(names)) != len(names) or len(set(classes)) != len(classes):
        raise _fault("names a body, or a class, twice")
    return bodies


def _body(number: int, row: object) -> Body:
    if not isinstance(row, Mapping) or set(row) != _FIELDS:
        raise _fault(f"row {number} has {', '.join(sorted(_FIELDS))}, and nothing else")
    name, classes, members = row["name"], _texts(row["classes"]), _texts(row["members"])
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == PMA:
        raise _fault(f"row {number} has a name of letters, digits, `.`, `_`, `-`, other than {PMA}")
    if not classes or not classes <= _CLASSES:
        raise _fault(
            f"row {number} names classes that are not connected with a Public Key (G2.22I asks the SMKI PMA for the others): "
            + ", ".join(sorted(_CLASSES))
        )
    if len(members) < _MEMBERS_AT_LEAST:
        raise _fault(f"row {number} names {_MEMBERS_AT_LEAST} members at least, by their custodian ids")
    return Body(name, classes, members)


def _texts(found: object) -> frozenset[str]:
    if not isinstance(found, list):
        return frozenset()
    return frozenset(one for one in found if isinstance(one, str))


def _fault(what: str) -> Malformed:
    return Malformed(
        f"governance.toml: transfer_body {what}",
        rule="governance/field",
        clause="G2.22I",
        field="transfer_body",
    )
