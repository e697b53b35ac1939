"""Module records: each module's line of the asset register (G5.6, G5.21), and the identity it was registered with.

A module that reports another identity or firmware than its record says has drifted; `reconcile` says so (G2.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.documents import mapping, number, text
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import Asset, asset_document, asset_from_document
from cryptosvc.core.names import ModuleName, SystemName

IDENTITY = ("manufacturer", "model", "serial", "firmware")
"""What a module is known by, as its token and slot report it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRecord:
    """One module.

    Args:
        module: the configured name.
        version: counts changes of this record, from 1.
        system: the system it belongs to (G2.20).
        asset: its line in the asset register.
        identity: each of `IDENTITY` → what the module reported; sorted.
        assurance: standard, level and certificate number in a line, as `FIPS 140-2 level 3, certificate 1234`.

    """

    module: ModuleName
    version: int
    system: SystemName
    asset: Asset
    identity: tuple[tuple[str, str], ...]
    assurance: str


def module_document(record: ModuleRecord) -> dict[str, JsonValue]:
    """Print a module record."""
    return {
        "module": record.module,
        "version": record.version,
        "system": record.system,
        "asset": asset_document(record.asset),
        "identity": dict(record.identity),
        "assurance": record.assurance,
    }


def module_from_document(document: Mapping[str, JsonValue]) -> ModuleRecord:
    """Read a module record. Malformed: not what `module_document` prints."""
    try:
        identity = mapping(document, "identity")
        found = ModuleRecord(
            module=ModuleName(text(document, "module")),
            version=number(document, "version"),
            system=SystemName(text(document, "system")),
            asset=asset_from_document(mapping(document, "asset")),
            identity=tuple(sorted((name, text(identity, name)) for name in identity)),
            assurance=text(document, "assurance"),
        )
        same = module_document(found) == document
    except (KeyError, ValueError, TypeError):
        same = False
    if not same or sorted(identity) != sorted(IDENTITY):
        raise Malformed("this is not a module record as this version prints it", rule="registry/document")
    return found
