"""What a Device sent: a Response or Alert whose MAC is to be verified, or a Response with attributes to decrypt.

    parse   the message, read to its last octet; the Device's certificate is of its sender, for key agreement, chained
    bind    the key is that of the party it is for, its certificate says so; the Device's certificate is in force
    then    VerifyMac: the module makes the MAC anew and the two are compared in constant time (`core/check.py`)
            Decrypt: the module decrypts, and gives nothing where a tag does not verify

There is nothing to promise: the same message may be verified or decrypted as often as is asked. Each time is claimed and
recorded as any other use. Both fail with the same two words, "not verified".

An encrypted attribute is authenticated by its own tag and by nothing else, so a Response is decrypted with its MAC around
it, with its signature in it, or as what VerifyMac gave back; none of them is looked at here. The plaintext is in the
answer and nowhere else; the record has a digest of what was encrypted, since that of a meter reading would give it away.

Source: GBCS 0.8.1 6.4.5, 8; SEC G2.45, G3.22.
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.gbcs import answer, attributes, codes, envelope, framing, mac
from cryptosvc.core.content.gbcs.agreed import AgreedContent, Task, require_all_in_force
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.gbcs.answer import Apdu
from cryptosvc.core.content.gbcs.parties import DEVICE_FIELD, Parties
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentForm, ContentKind, Eui64, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

CLAUSE = "G2.45"
_ENCRYPTED_FIELD = ContentForm.ENCRYPTED_RESPONSE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedContent(AgreedContent):
    """A Response or Alert whose Device is known.

    `signed_bytes` is the APDU inside; for attributes what is encrypted, one after the other.

    Args:
        agreement: of its tasks; its recipient is whose key is needed.
        claimed: the MAC as claimed, 12 octets; empty where attributes are to be decrypted.

    """

    agreement: Agreement
    claimed: bytes


def parse_answer(
    payload: bytes, device_certificate: bytes, profile: GbcsProfile, parties: Parties
) -> ReceivedContent:
    """Read a Response or Alert with a MAC, and its Device's certificate.

    Raises:
        Malformed: it is not one completely, or is a Command, whose MAC the Device verifies; no certificate.
        Forbidden: the certificate is another's, for another purpose, or not of a known authority.

    """
    read = mac.read_back(payload, profile.maximum_octets)
    apdu = read.apdu
    if apdu.cra is Purpose.COMMAND:
        raise Malformed(
            "the MAC of a Command is verified by its Device; send a Response or an Alert",
            rule="gbcs/command-to-verify",
            field=mac.MESSAGE_FIELD,
        )
    device = parties.device(device_certificate, apdu.originator)
    return ReceivedContent(
        kind=ContentKind.GBCS_ANSWER,
        signed_bytes=read.inner,
        facts=_facts(apdu, read.agreement, parties),
        device=device,
        tasks=(Task(read.agreement, read.additional),),
        agreement=read.agreement,
        claimed=read.mac,
    )


def parse_encrypted(
    payload: bytes, device_certificate: bytes, profile: GbcsProfile, parties: Parties
) -> ReceivedContent:
    """Read a Response with encrypted attributes, in its MAC or without, and its Device's certificate.

    Raises:
        Malformed: it is not one completely, or nothing in it is encrypted; no certificate.
        Forbidden: the certificate is another's, for another purpose, or not of a known authority.

    """
    try:
        apdu, parts = _encrypted(payload, profile.maximum_octets)
    except Malformed as error:
        error.field = _ENCRYPTED_FIELD
        raise
    agreement = attributes.agreement_of(apdu)
    device = parties.device(device_certificate, apdu.originator)
    return ReceivedContent(
        kind=ContentKind.ENCRYPTED_ATTRIBUTES,
        signed_bytes=b"".join(part.ciphertext + part.tag for part in parts),
        facts=(("attributes", str(len(parts))), *_facts(apdu, agreement, parties)),
        device=device,
        tasks=tuple(Task(agreement, attributes.ADDITIONAL, part.ciphertext, part.tag) for part in parts),
        agreement=agreement,
        claimed=b"",
    )


def bind(content: Content, key: KeyRecord, statement: Statement, at: UnixNanoseconds) -> None:
    """Refuse unless this message is for the party whose key this is.

    The certificate of the key need not be in force: what was protected before it ran out is read after (SP 800-57 7.4).

    Raises:
        Forbidden: the message is for another party, or the key's certificate says other than its record.
        WrongState: the Device's certificate is not in force.
        Malformed: something is stated that a received message does not have.

    """
    if not isinstance(content, ReceivedContent):
        raise Internal("not the content of a received message", rule="gbcs/content")
    if key.eui64 is None or key.eui64.octets != content.agreement.recipient:
        raise Forbidden(
            "the message is for another party than the one whose key this is",
            rule="gbcs/other-party",
            clause=CLAUSE,
            field="key_id",
        )
    signer.require_organisation(key)
    require_all_in_force(((content.device, "the Device's", DEVICE_FIELD),), at, CLAUSE)
    if statement.user_id and statement.user_id != str(key.eui64):
        raise Malformed(
            "the User ID stated is not the party this message is for", rule="gbcs/user-id", field="user_id"
        )
    if statement.service_reference_variant:
        raise Malformed(
            "a received message is asked about without a Service Reference Variant; leave it out",
            rule="gbcs/service-reference-variant",
            field="service_reference_variant",
        )


def require_verified(content: Content, made: bytes) -> None:
    """Compare the MAC made anew with the one claimed, in constant time; Forbidden where they differ."""
    if isinstance(content, ReceivedContent) and content.claimed:
        envelope.require_equal(made, content.claimed)


def plaintexts(content: Content, made: bytes) -> tuple[bytes, ...]:
    """Cut the joined plaintexts apart: each is as long as its ciphertext. Empty for any other content."""
    if not isinstance(content, ReceivedContent) or content.claimed:
        return ()
    found: list[bytes] = []
    at = 0
    for task in content.tasks:
        found.append(made[at : at + len(task.ciphertext)])
        at += len(task.ciphertext)
    return tuple(found)


def assemble(content: Content, _made: bytes, _key: KeyRecord) -> bytes:
    """What was verified, or what was decrypted as it was encrypted: the artefact, and what its digest is of."""
    return content.signed_bytes


def _encrypted(payload: bytes, maximum_octets: int) -> tuple[Apdu, tuple[attributes.Encrypted, ...]]:
    inner = payload
    if payload[:1] == bytes((framing.GENERAL_CIPHERING,)):
        inner, _ = envelope.unwrap(payload, maximum_octets, _ENCRYPTED_FIELD)
    elif len(payload) > maximum_octets:
        raise framing.wrong(f"a message has at most {maximum_octets} octets", "too-long")
    apdu = answer.read(inner, _ENCRYPTED_FIELD)
    parts = attributes.read(apdu, codes.by_number(apdu.code).payload)
    if not parts:
        raise framing.wrong("nothing in this Response is encrypted", "nothing-encrypted")
    return apdu, parts


def _facts(apdu: Apdu, agreement: Agreement, parties: Parties) -> tuple[tuple[str, str], ...]:
    """Facts for the record; `target` is the Device, as in every other content."""
    return (
        ("counter", str(agreement.number)),
        ("cra", f"{apdu.cra:02}"),
        ("device_chain", "checked" if parties.chained else "not-checked"),
        ("message_code", f"{apdu.code:04X}"),
        ("party", str(Eui64(agreement.recipient))),
        ("target", str(Eui64(agreement.initiator))),
    )
