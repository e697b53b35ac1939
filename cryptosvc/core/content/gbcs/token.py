"""A prepayment token to be authenticated with a supplier's prepayment key: what goes in is what GBCS authenticates.

    11 00 00 00 00 00  originator(8)  target(8)  01  counter(8)  upper half of the PTUT(4)

35 octets, read into a `Token` and written again; what comes out is the UTRN, twenty digits. Key and initialisation vector
are those of a Command, so the same promise is made: under one key, originator, target and counter only ever one value.

Example:
    >>> parse(Token(supplier, meter, 1 << 32, ValueClass.POUNDS, 20).additional, certificate, parties).token.value
    20

Source: GBCS 14; SEC G3.22 (the key is a User's); DUIS 2.2 (top up device, of suppliers).
"""

import hashlib
from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.gbcs import mac
from cryptosvc.core.content.gbcs.agreed import AgreedContent, Task, require_all_in_force
from cryptosvc.core.content.gbcs.parties import DEVICE_FIELD, Parties
from cryptosvc.core.content.gbcs.top_up import Token, read_additional, utrn
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentKind, Eui64, RemotePartyRole, UnixNanoseconds
from cryptosvc.core.registry import KeyRecord

CLAUSE = "G3.22"
VARIANTS = ("2.2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenContent(AgreedContent):
    """A top-up whose meter is known.

    Args:
        token: as read.

    """

    token: Token


def parse(payload: bytes, device_certificate: bytes, parties: Parties) -> TokenContent:
    """Read what is authenticated of a token, and its meter's certificate.

    Raises:
        Malformed: it is not that, to the octet; no certificate.
        Forbidden: the certificate is another's, for another purpose, or not of a known authority.

    """
    token = read_additional(payload)
    device = parties.device(device_certificate, token.target)
    return TokenContent(
        kind=ContentKind.TOP_UP,
        signed_bytes=payload,
        facts=(
            ("counter", str(token.counter)),
            ("device_chain", "checked" if parties.chained else "not-checked"),
            ("originator", str(Eui64(token.originator))),
            ("target", str(Eui64(token.target))),
            ("value", str(token.value)),
            ("value_class", token.value_class.name.lower()),
        ),
        promises=(Once(mac.ONCE_SCOPE, token.agreement.text, hashlib.sha256(payload).digest()),),
        service_reference_variants=VARIANTS,
        device=device,
        tasks=(Task(token.agreement, token.additional),),
        token=token,
    )


def bind(content: Content, key: KeyRecord, statement: Statement, at: UnixNanoseconds) -> None:
    """Refuse unless this supplier's key may authenticate this token now.

    Raises:
        Forbidden: the token is another supplier's; the key's certificate says other than its record.
        WrongState: the certificate of key or Device is not in force.
        Malformed: the statement contradicts the token.

    """
    if not isinstance(content, TokenContent):
        raise Internal("not the content of a prepayment token", rule="gbcs/content")
    if (
        key.eui64 is None
        or key.eui64.octets != content.token.originator
        or key.role is not RemotePartyRole.SUPPLIER
    ):
        raise Forbidden(
            "a prepayment token is authenticated with the key of the supplier it is from",
            rule="gbcs/other-party",
            clause=CLAUSE,
            field="key_id",
        )
    signer.require_organisation(key)
    signer.require_in_force(key, at)
    require_all_in_force(((content.device, "the Device's", DEVICE_FIELD),), at, CLAUSE)
    if statement.user_id and statement.user_id != str(key.eui64):
        raise Malformed(
            "the User ID stated is not the supplier this token is from", rule="gbcs/user-id", field="user_id"
        )
    if statement.service_reference_variant not in VARIANTS:
        raise Malformed(
            "a prepayment token is of Service Reference Variant 2.2; state it",
            rule="gbcs/service-reference-variant",
            field="service_reference_variant",
        )


def assemble(content: Content, made: bytes, _key: KeyRecord) -> bytes:
    """Write the UTRN, twenty ASCII digits, from the last four octets of the tag."""
    if not isinstance(content, TokenContent):
        raise Internal("not the content of a prepayment token", rule="gbcs/content")
    return utrn(content.token, made).encode("ascii")
