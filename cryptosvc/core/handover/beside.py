"""What travels beside a package, held to what the package names: wrapped keys, what keys were used for, device keys.

A destination's log says nothing of single uses that a key had before it came: they are no entries of that log, so that a replay
from its genesis cannot derive them. It commits to them by digest, in the record of the import, and so does the package that
the source signed; both are held to the octets here, where these are at hand. The source's own log has every one of the uses.

Source: Smart Energy Code G2.22G, G2.22I, G2.27.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptosvc.core.errors import Corrupt
from cryptosvc.core.handover import chunks
from cryptosvc.core.handover.notices import Freight, Package

CARRIER = "carrier"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file beside a package: hex SHA-256 of it, and its first line where it is part of the device keys."""

    sha256: str
    heading: bytes


def key_name(key_id: str) -> str:
    """Name of the blob of a wrapped key."""
    return f"key-{key_id}"


def claims_name(key_id: str) -> str:
    """Name of the blob with what a key's claims took."""
    return f"claims-{key_id}"


def require(package: Package, blobs: Mapping[str, Blob]) -> Iterator[str]:
    """Hold what is at hand to the package; a line of the page for each kind.

    Raises:
        Corrupt: `transfer/blob`, naming what is not what the package names.

    """
    named = {CARRIER: package.carrier}
    for one in package.keys:
        named[key_name(one.record.key_id)] = one.blob
        named[claims_name(one.record.key_id)] = one.claims
    missing = sorted(name for name in named if name not in blobs)
    for name, wanted in named.items():
        if name in blobs and blobs[name].sha256 != wanted:
            raise _broken(f"{name} is not the one that the package names")
    yield (
        f"- Beside the package: {len(named) - len(missing)} of {len(named)} blobs are at hand, and are what it names"
        + (f"; not at hand: {', '.join(missing)}." if missing else ".")
    )
    if package.freight is not None:
        yield _devices(package.freight, package.plan.transfer_id, blobs)


def require_taken(package: Package, facts: Mapping[str, str]) -> None:
    """Require that the record of the import took what the package says keys were used for; Corrupt otherwise."""
    for one in package.keys:
        if facts.get(f"claims:{one.record.key_id}") != one.claims:
            raise _broken(f"the destination took other uses of {one.record.key_id} than the package names")


def _devices(freight: Freight, transfer_id: str, blobs: Mapping[str, Blob]) -> str:
    """Follow the chain from the last part to the first; a line of the page."""
    wanted, rows = freight.last, 0
    for number in range(freight.chunks, 0, -1):
        found = blobs.get(chunks.name_of(number))
        if found is None:
            return f"- {freight.rows} device keys, of which part {number} of {freight.chunks} is not at hand."
        if found.sha256 != wanted:
            raise _broken(f"part {number} of the device keys is not the one that is named")
        wanted, some = chunks.previous_of(found.heading, transfer_id, number)
        rows += some
    if wanted or rows != freight.rows:
        raise _broken("the device keys are not as many as the package says")
    return f"- {freight.rows} device keys in {freight.chunks} parts are at hand, as they are named."


def _broken(what: str) -> Corrupt:
    return Corrupt(what, rule="transfer/blob", clause="G2.22I")
