"""The corridor for what Devices send and for prepayment tokens: a party's published keys, what should come of each message."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.core.case import Request
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import answer, attributes, codes, envelope, framing
from cryptosvc.core.content.gbcs.agreed import AgreedContent, taken
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import Grant, KeyRecord
from cryptosvc.flow.ports import Hsm
from tests.certificates import key_record
from tests.corridor import MODULE, SYSTEM
from tests.mac_corridor import MODULE_FACTS, Agreeing, Walk
from tests.mac_keys import certificate, decrypted, derived, private, shared_secret, tag
from tests.store_stand import Stand

LARGEST = 65_535
GRANTS = (
    Grant(operation="verify-mac", key_class="key-agreement"),
    Grant(operation="decrypt", key_class="key-agreement"),
    Grant(operation="mac", key_class="prepayment"),
)


class Doing(Agreeing):
    """Does every task under an agreed key with keys in memory."""

    def _one(self, claim: Claim) -> Produced | Failed:
        case = claim.authorised.case
        assert isinstance(case.content, AgreedContent)
        self.signed.append(claim)
        made: list[bytes] = []
        for task in case.content.tasks:
            secret = shared_secret(self.private[case.key.key_id], case.content.device.public_point)
            key = derived(secret, task.agreement)
            if not task.tag:
                made.append(tag(key, task.agreement, task.additional))
                continue
            try:
                made.append(decrypted(key, task.agreement, task.additional, task.ciphertext, task.tag))
            except InvalidTag:
                return Failed(
                    claim, Forbidden("not verified", rule="gbcs/mac-not-verified", clause="G2.44(b)")
                )
        return Produced(claim, taken(case.content, made), "service")


@dataclass(frozen=True)
class Received:
    """A message of the data set with whose key it needs and whose certificate.

    Args:
        name: of its file.
        whole: as it travels.
        inner: the APDU inside.
        party, device: EUI-64s, 8 octets each.

    """

    name: str
    whole: bytes
    inner: bytes
    party: bytes
    device: bytes


def with_macs(folder: Path) -> list[Received]:
    """Every Response and Alert with a MAC."""
    found: list[Received] = []
    for name, whole in _devices_messages(folder):
        if whole[0] == framing.GENERAL_CIPHERING:
            inner, _ = envelope.unwrap(whole, LARGEST, "x")
            apdu = answer.read(inner, "x")
            found.append(Received(name, whole, inner, apdu.target, apdu.originator))
    return found


def with_attributes(folder: Path) -> list[Received]:
    """Every Response with an encrypted attribute."""
    found: list[Received] = []
    for name, whole in _devices_messages(folder):
        if "_RESPONSE_" not in name:
            continue
        inner = envelope.unwrap(whole, LARGEST, "x")[0] if whole[0] == framing.GENERAL_CIPHERING else whole
        apdu = answer.read(inner, "x")
        if attributes.read(apdu, codes.by_number(apdu.code).payload):
            party = attributes.agreement_of(apdu).recipient
            found.append(Received(name, whole, inner, party, apdu.originator))
    return found


def _devices_messages(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((folder / "rtds").rglob("*.HEX")):
        if "_RESPONSE_" in path.name or "_ALERT_" in path.name:
            yield path.name, bytes.fromhex(path.read_text())


def key_of(party: bytes, kind: str = "ka") -> KeyId:
    return KeyId(f"{party.hex()}-{kind}")


def record_of(folder: Path, party: bytes, kind: str = "ka") -> KeyRecord:
    """The record of a party's published key-agreement (`ka`) or prepayment (`pp-ka`) key."""
    encoded = certificate(folder, party, kind)
    facts = read_certificate(encoded)
    assert facts.role is not None
    made = key_record(
        "prepayment" if kind == "pp-ka" else "key-agreement",
        private(folder, party, kind).public_key(),
        encoded,
        role=int(facts.role),
        entity=party.hex("-").upper(),
    )
    return replace(made, key_id=key_of(party, kind), module=MODULE, system=SYSTEM)


def ask(
    folder: Path, received: Received, form: ContentForm, request_id: str = "", **changes: object
) -> Request:
    asked = Request(
        request_id=RequestId((request_id or f"{form} {received.name}")[-64:]),
        key_id=key_of(received.party),
        form=form,
        payload=received.whole,
        statement=Statement(),
        device_certificate=certificate(folder, received.device),
    )
    return replace(asked, **changes)


class ReceivedWalk(Walk):
    """The corridor over one store with several parties' keys."""

    def __init__(
        self,
        stand: Stand,
        policy: CedarPolicy,
        keys: dict[KeyId, ec.EllipticCurvePrivateKey],
        parties: Parties,
        module: Hsm | None = None,
    ) -> None:
        hsm = Doing(MODULE_FACTS, keys)
        super().__init__(stand, policy, next(iter(keys.values())), parties, module or hsm)
        self.hsm = hsm
        self.caller = replace(self.caller, grants=GRANTS)
