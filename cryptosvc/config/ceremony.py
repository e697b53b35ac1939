"""Ceremony files: TOML text → a `Script`, and who is there, with which key. `scripts/ceremonies/` holds ready ones.

Only the text is read here. What the keys mean is read in `core/ceremony/script.py`, because the same document stands
in every transcript and is read back from there by whoever verifies one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from cryptosvc.config.reading import Section, read_document, read_toml
from cryptosvc.config.settings import Name
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.ceremony.script import PEOPLE_AT_MOST, Script, read

CARD = "pkcs11:"
"""How the name of a key on a card begins (RFC 7512)."""


def _key(text: str, info: ValidationInfo) -> str:
    if text.startswith(CARD):
        return text
    return str(Path((info.context or {}).get("folder", Path())) / Path(text).expanduser())


class PersonEntry(Section):
    """Somebody who is there.

    Args:
        person: id in the custodian register, or the name under which a witness was admitted.
        roles: in what capacities.
        key: PEM file of the private key they sign with, or the `pkcs11:` URI of one on a card.

    """

    person: Name
    roles: tuple[Role, ...]
    key: Annotated[str, AfterValidator(_key)]


class PeopleFile(Section):
    """Who is there."""

    present: Annotated[tuple[PersonEntry, ...], Field(min_length=1, max_length=PEOPLE_AT_MOST)]


@dataclass(frozen=True, slots=True)
class CeremonyFile:
    """A ceremony file that can be held.

    Args:
        script: what it says.
        sha256: of its octets, lower-case hex, as transcripts name it.

    """

    script: Script
    sha256: str


def read_ceremony(path: Path) -> CeremonyFile:
    """Read a ceremony file; Malformed as `read_document` or `core.ceremony.script.read`."""
    octets, document = read_document(path)
    return CeremonyFile(read(document), hashlib.sha256(octets).hexdigest())


def read_people(path: Path) -> tuple[PersonEntry, ...]:
    """Read the file that says who is there; Malformed as `read_toml`."""
    return read_toml(path, PeopleFile).present
