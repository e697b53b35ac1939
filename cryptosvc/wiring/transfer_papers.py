"""The papers of a transfer: they lie in one folder, under fixed names, which travels between the sides and the SMKI PMA.

    offer.dsse  plan.json  approval.dsse  package.dsse and *.blob  receipt.dsse  not-imported.dsse  disposition.dsse
    scope.json  package.digest  destination.key  source.key

The last five are made for `propose --param NAME=@FILE`; custodians see what they hold before they sign.
"""

from collections.abc import Mapping
from pathlib import Path

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.errors import Malformed
from cryptosvc.core.handover import checks
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.papers import Plan
from cryptosvc.wiring.profiles import read_octets

NAMES: Mapping[str, str] = {
    papers.OFFER: "offer.dsse",
    papers.PACKAGE: "package.dsse",
    papers.RECEIPT: "receipt.dsse",
    papers.NOT_IMPORTED: "not-imported.dsse",
    papers.DISPOSITION: "disposition.dsse",
}
PLAN, APPROVAL, APPROVED = "plan.json", "approval.json", "approval.dsse"
SCOPE, PACKAGE_DIGEST = "scope.json", "package.digest"


def offer_in(folder: Path) -> papers.Offer:
    """The offer in the folder, verified under the destination's key that lies beside it."""
    key = read_octets(folder / "destination.key", "destination.key")
    octets = read_octets(folder / NAMES[papers.OFFER], NAMES[papers.OFFER])
    return papers.offer_from_document(checks.read_statement(octets, key, papers.OFFER))


def plan_in(folder: Path) -> Plan:
    """The plan in the folder."""
    return papers.plan_from_document(object_of(read_octets(folder / PLAN, PLAN), PLAN))


def object_of(octets: bytes, name: str) -> Mapping[str, JsonValue]:
    """Read canonical JSON; Malformed where it is anything else."""
    try:
        document: object = orjson.loads(octets)
        same = isinstance(document, dict) and canonical(document) == octets
    except ValueError:
        same = False
    if not same or not isinstance(document, dict):
        raise Malformed(f"{name} is not canonical JSON", rule="transfer/paper", clause="G2.22I", field=name)
    return document


def write(path: Path, octets: bytes) -> str:
    """Write a paper; where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    return str(path)
