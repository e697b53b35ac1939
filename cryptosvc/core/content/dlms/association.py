"""An Application Association opened with a dedicated key: the InitiateRequest, in which the Device gets that key.

The payload is our system title (8), an invocation counter of the Device's encryption key (4), and the InitiateRequest without
a dedicated key, 14 octets:

    01 00 00 00 06 5F1F0400 conformance(3) size(2)

that is: no dedicated key, a response wanted, no quality of service, DLMS version 6. The module makes the key, puts it in (01 10
and 16 octets in the place of the first 00), and the whole is protected as `glo-initiate-request` under the Device's encryption
and authentication keys (security control 30), for the AARQ's user information.

Example:
    >>> with_key(bytes.fromhex("01000000065f1f0400007e1f04b0"), bytes(16))[:4].hex()
    '01011000'

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.3.7, 9.4.6.1, 11 (the AARQ with a dedicated key); IEC 62056-5-3.
"""

from dataclasses import dataclass

from cryptosvc.core import associations
from cryptosvc.core.associations import DedicatedKey
from cryptosvc.core.content.base import Content, Rising, Statement
from cryptosvc.core.content.dlms import framing, protection
from cryptosvc.core.content.dlms.apdu import wrong
from cryptosvc.core.content.dlms.framing import BOTH, TAG_OCTETS
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.content.dlms.protection import CLAUSE, COUNTER_SCOPE, DlmsContent, Way
from cryptosvc.core.device_keys import KEY_OCTETS
from cryptosvc.core.errors import Corrupt, Internal, Refusal, WrongState
from cryptosvc.core.names import ContentForm, ContentKind
from cryptosvc.core.registry import KeyRecord, KeyState

_FORM = ContentForm.DLMS_ASSOCIATION
_BEFORE = bytes.fromhex("01000000065f1f0400")
"""InitiateRequest, no dedicated key, response wanted, no quality of service, version 6, the tag of the conformance block."""
_PLAIN_OCTETS = len(_BEFORE) + 3 + 2
_WITH_KEY_OCTETS = _PLAIN_OCTETS + 1 + KEY_OCTETS
MESSAGE_OCTETS = _WITH_KEY_OCTETS + TAG_OCTETS
"""Ciphertext and tag of an InitiateRequest with its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationContent(DlmsContent):
    """An InitiateRequest that is to get a dedicated key.

    Args:
        seconds: how long the association may last.

    """

    seconds: int


def parse(payload: bytes, profile: Smets1Profile) -> AssociationContent:
    """Read what opens an association.

    Raises:
        Malformed: it is not a system title, a counter and that InitiateRequest, to the octet.
        WrongState: the counter is the last one.

    """
    title, counter, text = protection.taken_apart(_FORM, payload)
    if len(text) != _PLAIN_OCTETS or not text.startswith(_BEFORE):
        raise wrong(
            "an association is opened with an InitiateRequest of DLMS version 6 without a dedicated key, which is put in here",
            "initiate-request",
            _FORM.value,
        )
    number = int.from_bytes(counter)
    return AssociationContent(
        kind=ContentKind.DLMS_ASSOCIATION,
        signed_bytes=text,
        facts=(
            ("conformance", text[len(_BEFORE) : -2].hex()),
            ("counter", str(number)),
            ("seconds", str(profile.association_seconds)),
            ("security", "authenticated-encrypted"),
            ("system_title", title.hex()),
        ),
        promises=(Rising(COUNTER_SCOPE, number),),
        way=Way.PROTECT,
        security=BOTH,
        system_title=title,
        counter=counter,
        text=text,
        seconds=profile.association_seconds,
    )


def bind(
    content: Content, key: KeyRecord, second: KeyRecord | None, statement: Statement, profile: Smets1Profile
) -> None:
    """Refuse unless these keys of one Device may open one; raises as `protection.bind`, and WrongState for an old epoch."""
    protection.bind(content, key, second, statement, profile)
    sealed = protection.require_device_key(key)
    if sealed.wrapping.state is not KeyState.ACTIVE:
        raise WrongState(
            f"the Device's keys are under {sealed.wrapping.key_id}, which protects nothing new; have them wrapped anew first "
            "(device-work.re-wrap)",
            rule="association/epoch",
            clause=CLAUSE,
            field="key_id",
        )


def with_key(text: bytes, key: bytes) -> bytes:
    """An InitiateRequest with a dedicated key in it, 31 octets."""
    return b"\x01\x01" + bytes((KEY_OCTETS,)) + key + text[2:]


def key_at() -> tuple[int, int]:
    """Where the key stands in what `with_key` makes: from, to."""
    return 3, 3 + KEY_OCTETS


def sealed_key(content: AssociationContent, made: bytes) -> bytes:
    """The seal in what the module's work gave; Corrupt where it is none of this content's."""
    seal = made[MESSAGE_OCTETS:]
    try:
        row: DedicatedKey = associations.read(seal)
    except Refusal:
        raise _not_asked() from None
    if not row.blob or row.expires_at - row.opened_at != content.seconds:
        raise _not_asked()
    return seal


def assemble(content: Content, made: bytes) -> bytes:
    """The glo-initiate-request for the AARQ."""
    if not isinstance(content, AssociationContent):
        raise Internal("not what opens an association", rule="dlms/content")
    header = bytes((content.security,)) + content.counter
    return framing.wrap_initiate(header + made[:MESSAGE_OCTETS])


def tag_of(made: bytes) -> bytes:
    """Its tag, 12 octets."""
    return made[MESSAGE_OCTETS - TAG_OCTETS : MESSAGE_OCTETS]


def _not_asked() -> Corrupt:
    return Corrupt("what the module made is not what was asked of it", rule="check/dlms")
