"""The GBCS Pre-Command: a whole unsigned Command in, the bytes to sign and what they say out.

Read completely or refused: the frame, the OtherInfo its originator may send, and the payload of its message code as
DLMS, GBZ or ASN.1 with every equality between payload and header. Commands that carry no signature are read too, and
then refused by `bind`, so that the refusal can name the message code.

What is promised to the claim: under one key, originator, target and counter only ever these bytes.

Example:
    >>> from cryptosvc.core.content.gbcs import dlms, framing
    >>> who, what, counter = bytes(8), bytes.fromhex("00DB1234567890A0"), 1000
    >>> opens = dlms.spec(dlms.ACTION, 9, "0-0:10.0.106.255", 1), dlms.LONG_UNSIGNED + b"\\x00\\x34"
    >>> payload = dlms.emit(counter.to_bytes(8), [opens])
    >>> message = framing.build(code=0x0050, originator=who, target=what, counter=counter, payload=payload)
    >>> read = parse(message, GbcsProfile())
    >>> read.code.use_case, read.service_reference_variants, emit(read) == message
    ('ECS43', ('7.2',), True)

Sources: GBCS 0.8.1 13.3.3.1 and 6.4.5; G2.56, G3.29; see `framing`, `codes`, `dlms`, `gbz`, `structures`.
"""

import hashlib
from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Once, Statement
from cryptosvc.core.content.gbcs import asn1, codes, dlms, framing, gbz
from cryptosvc.core.content.gbcs.codes import CODE_ONLY, USERS, WITH_SUPPLEMENTARY_PARTY, Code, Payload
from cryptosvc.core.content.gbcs.items import ITEMS
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.gbcs.structures import CERTIFICATE, MODES, STRUCTURES
from cryptosvc.core.content.gbcs.templates import GRAMMARS
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.keyclass import CONTINGENCY, RECOVERY
from cryptosvc.core.names import ContentKind, RemotePartyRole, UnixNanoseconds, UserRole
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly

ONCE_SCOPE = "gbcs-counter"

_NULL_SIGNATURE = b"\x00"
_SIGNATURE_LENGTH = bytes((framing.SIGNATURE_OCTETS,))
_TAG = bytes((framing.GENERAL_SIGNING,))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreCommand(Content):
    """A Pre-Command, read to its last octet.

    Args:
        code: row of its message code.
        counter: originator counter.
        originator: EUI-64 text of the Business Originator.
        target: EUI-64 text of the Business Target, a Device.
        other_info_octets: length of OtherInfo.
        supplementary_party: EUI-64 text of the party the Access Control Broker acts for; empty where there is none.

    """

    code: Code
    counter: int
    originator: str
    target: str
    other_info_octets: int
    supplementary_party: str = ""


_pre_command = quickly(PreCommand)
_once = quickly(Once)


def parse(payload: bytes, profile: GbcsProfile) -> PreCommand:
    """Read one Pre-Command, with or without the octet of its null signature.

    Args:
        payload: the whole message from its DF tag; at most `profile.maximum_octets`.
        profile: who is an Access Control Broker.

    Raises:
        Malformed: it is not, completely, a Pre-Command of a known message code; the rule begins with `gbcs/`.

    """
    counter, sender, receiver, other_info, start, end = framing.read(payload, profile.maximum_octets)
    code = codes.by_octets(other_info[:2])
    is_broker = sender in profile.brokers
    if len(other_info) != CODE_ONLY:
        _check_other_info(other_info, code, is_broker=is_broker)
    match code.payload:
        case Payload.DLMS:
            dlms.read(
                payload, start, end, payload[framing.COUNTER_AT : framing.COUNTER_END], ITEMS.get(code.number)
            )
        case Payload.GBZ:
            gbz.read(payload, start, end, GRAMMARS.get(code.number))
        case Payload.ASN1:
            number = code.number
            asn1.read(payload, start, end, STRUCTURES[number], asn1.Expected(counter, MODES.get(number)))
    signed_bytes = payload[1:end]
    originator = sender.hex("-").upper()
    target = receiver.hex("-").upper()
    number_text = str(counter)
    facts: tuple[tuple[str, str], ...] = (
        ("counter", number_text),
        ("message_code", code.text),
        ("originator", originator),
        ("payload_kind", code.payload.value),
        ("target", target),
        ("use_case", code.use_case),
    )
    supplementary_party = ""
    if len(other_info) != CODE_ONLY:
        supplementary_party = other_info[2:10].hex("-").upper()
        facts = (
            *facts[:4],
            ("supplementary_counter", str(int.from_bytes(other_info[10:18]))),
            ("supplementary_party", supplementary_party),
            *facts[4:],
        )
    return _pre_command(
        kind=ContentKind.GBCS_PRE_COMMAND,
        signed_bytes=signed_bytes,
        facts=facts,
        promises=(
            _once(
                ONCE_SCOPE, f"{originator}/{target}/01/{number_text}", hashlib.sha256(signed_bytes).digest()
            ),
        ),
        service_reference_variants=code.broker_variants if is_broker else code.variants,
        code=code,
        counter=counter,
        originator=originator,
        target=target,
        other_info_octets=len(other_info),
        supplementary_party=supplementary_party,
    )


def bind(
    content: Content, key: KeyRecord, statement: Statement, profile: GbcsProfile, at: UnixNanoseconds
) -> None:
    """Refuse unless this key may sign this very Pre-Command, and the statement beside it is about it.

    Raises:
        Forbidden: another party's key, or one whose certificate says other than its record; a message code its role does not sign; a Command that carries no signature.
        Malformed: Service Reference Variant, User ID or User Role contradict the message, or a User's message comes
            without its User ID and User Role (thresholds count by them).
        WrongState: the key's certificate is not valid at this time.

    """
    message = _own(content)
    role = key.role
    code = message.code
    # 1 the key is the originator's
    if key.eui64 is None or str(key.eui64) != message.originator:
        raise Forbidden(
            "the originator of a Pre-Command must be the party the key's certificate names",
            rule="gbcs/originator",
            clause=_clause(role),
            field=framing.FIELD,
        )
    if key.key_class == CONTINGENCY:
        _require_of_contingency(message, statement)
        return
    signer.require_organisation(key)
    signer.require_in_force(key, at)
    # 2 who acts as Access Control Broker is configured, and only it carries that role
    if (role is RemotePartyRole.ACCESS_CONTROL_BROKER) is not (key.eui64 in profile.access_control_brokers):
        raise Forbidden(
            "the parties with the role of Access Control Broker are those configured, and no others",
            rule="gbcs/broker",
            clause=_clause(role),
            field=framing.FIELD,
        )
    # 3 its role signs this message code; a key of the Recovery role is of the class that has this role and no other is
    octets = code.signers.get(role) if role is not None else None
    if octets is None or (role is RemotePartyRole.RECOVERY) is not (key.key_class == RECOVERY):
        raise _not_a_signer(code, role)
    # 4 a party that acts for another says so, and no other does
    if octets != message.other_info_octets:
        raise Forbidden(
            f"a {_role_name(role)} signs {code.use_case} with {octets} octets of OtherInfo",
            rule="gbcs/acting-for",
            clause=_clause(role),
            field=framing.FIELD,
        )
    # 5 what is said beside the message is about the message
    _check_statement(message, role, statement)


def assemble(content: Content, signature: bytes, _key: KeyRecord) -> bytes:
    """Write the Signed Pre-Command: the message with 40 and r‖s (64 octets) in place of its null signature."""
    return signed(content, signature)


def signed(content: Content, signature: bytes) -> bytes:
    """Write the Signed Pre-Command of a signature (64 octets) that is there already."""
    return b"".join((_TAG, content.signed_bytes, _SIGNATURE_LENGTH, signature))


def emit(content: Content) -> bytes:
    """Write the Pre-Command again, with a null signature as DUIS has it: the inverse of `parse`."""
    return b"".join((_TAG, content.signed_bytes, _NULL_SIGNATURE))


def _check_other_info(other_info: bytes, code: Code, *, is_broker: bool) -> None:
    """Hold OtherInfo that names another party against who may name one."""
    if not is_broker:
        raise framing.wrong("only the Access Control Broker acts for another party", "supplementary-party")
    octets = len(other_info)
    if octets == WITH_SUPPLEMENTARY_PARTY:
        return
    # A Command whose response is for an Unknown Remote Party carries that party's key agreement certificate. No
    # signed Command does: its response is not encrypted.
    if octets <= WITH_SUPPLEMENTARY_PARTY or code.signers:
        raise framing.wrong(
            "OtherInfo is a message code, or a code with a party and its counter", "other-info"
        )
    asn1.read(other_info, WITH_SUPPLEMENTARY_PARTY, octets, CERTIFICATE, asn1.Expected(0, None))


def _check_statement(message: PreCommand, role: RemotePartyRole | None, statement: Statement) -> None:
    variant = statement.service_reference_variant
    variants = message.service_reference_variants
    if variant not in variants and (variant or variants):
        raise Malformed(
            f"{message.code.use_case} from this originator is of Service Reference Variant "
            f"{' or '.join(variants) or 'none'}; state it",
            rule="gbcs/service-reference-variant",
            field="service_reference_variant",
        )
    user_id = statement.user_id
    if user_id and user_id != (message.supplementary_party or message.originator):
        raise Malformed(
            "the User ID stated is not the party this message is from",
            rule="gbcs/user-id",
            field="user_id",
        )
    user_role = statement.user_role
    users = USERS.get(role) if role is not None else None
    if users is None:
        # The DCC may say that it is the DCC, or name the role of the User it acts for.
        holds = user_role in ("", UserRole.DCC) or user_role in codes.ELIGIBLE_ROLES.get(variant, ())
    else:
        # A User is always named: whoever could leave the role out would be asked neither whether it is the caller's
        # nor whether it may send this.
        if not user_id or not user_role:
            raise Malformed(
                "a User's Pre-Command is signed for a User ID in a User Role: state both",
                rule="gbcs/user-unstated",
                field="user_role" if user_id else "user_id",
            )
        holds = user_role in (users & codes.ELIGIBLE_ROLES[variant] if variant else users)
    if not holds:
        raise Forbidden(
            "no User in the role stated may send this Service Reference Variant",
            rule="gbcs/user-role",
            clause="G1.5",
            field="user_role",
        )


def _require_of_contingency(message: PreCommand, statement: Statement) -> None:
    """The Contingency key signs one Command, for itself; it has no certificate, Devices know it by their Root's."""
    if message.code.number != codes.BY_CONTINGENCY or message.other_info_octets != codes.CODE_ONLY:
        raise Forbidden(
            f"the Contingency key signs the Command 0109 alone, not {message.code.use_case} ({message.code.text})",
            rule="gbcs/contingency",
            clause="G2.56",
            field=framing.FIELD,
        )
    _check_statement(message, None, statement)


def _not_a_signer(code: Code, role: RemotePartyRole | None) -> Forbidden:
    if not code.signers:
        return Forbidden(
            f"{code.use_case} ({code.text}) is a Command that no Remote Party key signs",
            rule="gbcs/not-signed",
            clause=_clause(role),
            field=framing.FIELD,
        )
    may = ", ".join(sorted(signer.name.lower().replace("_", " ") for signer in code.signers))
    return Forbidden(
        f"the key of a {_role_name(role)} may not sign {code.use_case} ({code.text}); it is signed by: {may}",
        rule="gbcs/role",
        clause=_clause(role),
        field=framing.FIELD,
    )


def _clause(role: RemotePartyRole | None) -> str:
    """G3.29 limits the keys of Users, G2.56 those of the DCC."""
    return "G3.29" if role in USERS else "G2.56"


def _role_name(role: RemotePartyRole | None) -> str:
    return "party without a role" if role is None else role.name.lower().replace("_", " ")


def _own(content: Content) -> PreCommand:
    if not isinstance(content, PreCommand):
        raise Malformed(
            "this content was not read as a Pre-Command", rule="gbcs/content", field=framing.FIELD
        )
    return content
