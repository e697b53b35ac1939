"""What is done with a Device's encryption key: requests protected, a challenge answered, protected answers read.

Each payload is the Device's or our system title, then:

    request to protect   title(8) counter(4) plaintext request
    challenge            title(8) counter(4) the server's challenge, 8 to 64 octets
    protected answer     title(8) the whole APDU, whose counter stands in it

The initialisation vector is title and counter, so a counter used twice under a key would give its plaintexts away. What we
protect therefore takes a number that only rises, one for each key, whatever is done with it (`Rising`); the highest,
2**32 - 1, is the end of the key. What we protect is under one of our own system titles and what we read under none of
them: else reading would be writing, with a counter nobody took. And a challenge that resembles a request is not answered:
its tag would be that of the request.

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3.6, 9.2.7.4; NIST SP 800-38D 8; facts of suite 0 as published with the
vectors of pwitab/dlms-cosem.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from cryptosvc.core.content.base import Content, Rising, Statement
from cryptosvc.core.content.dlms import apdu, framing
from cryptosvc.core.content.dlms.apdu import wrong
from cryptosvc.core.content.dlms.framing import AUTHENTICATED, BOTH, COUNTER_OCTETS, ENCRYPTED, TITLE_OCTETS
from cryptosvc.core.content.dlms.profile import Smets1Profile
from cryptosvc.core.device_keys import SealedKeyRecord
from cryptosvc.core.errors import Corrupt, Forbidden, Internal, Malformed, WrongState
from cryptosvc.core.names import ContentForm, ContentKind
from cryptosvc.core.registry import KeyRecord

CLAUSE = "G2.44(c), (e)"
DEDICATED = "dedicated"
COUNTER_SCOPE = "dlms-invocation-counter"
HIGHEST_COUNTER = 2**32 - 1
SHORTEST_CHALLENGE, LONGEST_CHALLENGE = 8, 64
LARGEST_OCTETS = 65_000
_PREFIX_OCTETS = TITLE_OCTETS + COUNTER_OCTETS
_SHOWN_ITEMS = 4
_SECURITY: Mapping[ContentForm, int] = MappingProxyType(
    {
        ContentForm.DLMS_AUTHENTICATED_ENCRYPTION: BOTH,
        ContentForm.DLMS_ENCRYPTION: ENCRYPTED,
        ContentForm.DLMS_AUTHENTICATION: AUTHENTICATED,
        ContentForm.DLMS_CHALLENGE: AUTHENTICATED,
    }
)
_WORDS = {AUTHENTICATED: "authenticated", ENCRYPTED: "encrypted", BOTH: "authenticated-encrypted"}


class Way(StrEnum):
    """What the module does."""

    PROTECT = "protect"
    """Encrypts, or makes a tag, or both, as the security control says."""
    READ = "read"
    """Decrypts, or makes the tag anew, or both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsContent(Content):
    """What a Device's encryption key is used on.

    Args:
        way: what the module does.
        security: security control.
        system_title: of whoever protected it, 8 octets.
        counter: invocation counter, 4 octets.
        text: what is protected, or was.
        tag: claimed, 12 octets; empty where one is made or there is none.
        request_tag: first octet of the request; 0 where it is none.
        add_credit: whether the request adds credit and nothing else.
        dedicated: of what was read: it is said to be under a dedicated key.

    """

    way: Way
    security: int
    system_title: bytes
    counter: bytes
    text: bytes
    tag: bytes = b""
    request_tag: int = 0
    add_credit: bool = False
    dedicated: bool = False

    @property
    def vector(self) -> bytes:
        """Initialisation vector, 12 octets."""
        return self.system_title + self.counter

    @property
    def authenticated(self) -> bool:
        """Whether the authentication key takes part."""
        return self.security != ENCRYPTED


def parse(form: ContentForm, payload: bytes, profile: Smets1Profile) -> DlmsContent:
    """Read what is to be protected.

    Raises:
        Malformed: it is not a system title, a counter and a whole request (or a challenge).
        WrongState: the counter is the last one.

    """
    security = _SECURITY[form]
    title, counter, text = taken_apart(form, payload)
    if form is ContentForm.DLMS_CHALLENGE:
        if not SHORTEST_CHALLENGE <= len(text) <= LONGEST_CHALLENGE:
            raise wrong("a challenge has 8 to 64 octets", "challenge", form.value)
        if apdu.resembles(text):
            raise wrong(
                "the challenge begins as a request does; its answer would authenticate that request",
                "challenge-is-request",
                form.value,
            )
        kind, found, items = ContentKind.DLMS_CHALLENGE, None, ""
    else:
        try:
            found = apdu.read(text)
        except Malformed as error:
            error.field = form.value
            raise
        kind = ContentKind.DLMS_AUTHENTICATED if security == AUTHENTICATED else ContentKind.DLMS_CIPHERED
        items = ", ".join(map(str, found.items[:_SHOWN_ITEMS]))
        if len(found.items) > _SHOWN_ITEMS:
            items += f" and {len(found.items) - _SHOWN_ITEMS} more"
    number = int.from_bytes(counter)
    facts = {
        "counter": str(number),
        "security": _WORDS[security],
        "system_title": title.hex(),
    }
    if found is not None:
        facts |= {"items": items, "request": apdu.NAMES[found.tag]}
    add_credit = found is not None and profile.adds_credit(found)
    if add_credit:
        facts["add_credit"] = "yes"
    return DlmsContent(
        kind=kind,
        signed_bytes=text,
        facts=tuple(sorted(facts.items())),
        promises=(Rising(COUNTER_SCOPE, number),),
        way=Way.PROTECT,
        security=security,
        system_title=title,
        counter=counter,
        text=text,
        request_tag=0 if found is None else found.tag,
        add_credit=add_credit,
    )


def parse_protected(payload: bytes) -> DlmsContent:
    """Read what a Device sent: its system title and the whole APDU. Malformed where it is not that, to the octet."""
    if len(payload) > LARGEST_OCTETS:
        raise wrong(f"a message has at most {LARGEST_OCTETS} octets", "too-long", framing.FIELD)
    title = payload[:TITLE_OCTETS]
    found = framing.read(payload[TITLE_OCTETS:], title)
    return DlmsContent(
        kind=ContentKind.DLMS_ANSWER,
        signed_bytes=payload[TITLE_OCTETS:],
        facts=(
            ("answer", found.name),
            ("counter", str(int.from_bytes(found.counter))),
            ("device_title", title.hex()),
            ("security", _WORDS[found.security]),
        ),
        way=Way.READ,
        security=found.security,
        system_title=title,
        counter=found.counter,
        text=found.text,
        tag=found.tag,
        dedicated=found.dedicated,
    )


def bind(
    content: Content, key: KeyRecord, second: KeyRecord | None, statement: Statement, profile: Smets1Profile
) -> None:
    """Refuse unless these keys of one Device may be used on this.

    Raises:
        Forbidden: no key of a Device, keys of two Devices, or a system title that is not what it should be.
        Malformed: the authentication key is missing, or something is stated that such a request has not.

    """
    if not isinstance(content, DlmsContent):
        raise Internal("not the content of a SMETS1 Device's key", rule="dlms/content")
    sealed = require_device_key(key)
    require_nothing_stated(statement)
    if content.authenticated:
        require_beside(sealed, second, "authentication")
    ours = content.system_title in profile.system_titles
    if content.way is Way.PROTECT and not ours:
        raise Forbidden(
            "what is sent to a Device is protected under a system title of this service (smets1.system_titles)",
            rule="dlms/system-title",
            clause=CLAUSE,
            field="system_title",
        )
    if content.way is Way.READ:
        row = sealed.row
        if content.dedicated is not (row.kind == DEDICATED):
            raise Forbidden(
                "a ded-… message is read with the dedicated key of its association, a glo-… message with the Device's encryption key",
                rule="dlms/other-key",
                clause=CLAUSE,
                field="key_id",
            )
        model = profile.model_of(row.manufacturer, row.model, row.firmware)
        if ours or (model.titled_by_eui64 and content.system_title != row.device.octets):
            raise Forbidden(
                "what is read comes under the system title of this Device, never under one of this service's own",
                rule="dlms/system-title",
                clause=CLAUSE,
                field="system_title",
            )


def require_device_key(key: KeyRecord) -> SealedKeyRecord:
    """The key as one of the device store; Forbidden where it is another."""
    if not isinstance(key, SealedKeyRecord):
        raise Forbidden(
            "only keys of the device store are used on what SMETS1 Devices get and send",
            rule="dlms/not-a-device-key",
            clause=CLAUSE,
            field="key_id",
        )
    return key


def require_beside(
    key: SealedKeyRecord, second: KeyRecord | None, kind: str, field: str = "authentication_key"
) -> SealedKeyRecord:
    """The second key, of the same Device, system and module.

    Args:
        key: the first.
        second: as asked.
        kind: what it has to be; empty for any.
        field: of the request, for the refusal.

    """
    if second is None:
        raise Malformed(
            f"name the {kind} key of the Device beside the first", rule="dlms/second-key", field=field
        )
    if not isinstance(second, SealedKeyRecord) or (
        second.row.device != key.row.device or second.row.system != key.row.system
    ):
        raise Forbidden(
            "both keys of a request are keys of one Device",
            rule="dlms/other-device",
            clause=CLAUSE,
            field=field,
        )
    if kind and second.row.kind != kind:
        raise Forbidden(
            f"the second key is not the Device's {kind} key",
            rule="dlms/second-kind",
            clause=CLAUSE,
            field=field,
        )
    if second.module != key.module:
        raise WrongState(
            "the two keys of the Device are under storage keys of different modules; have them wrapped anew under one",
            rule="dlms/other-module",
            clause=CLAUSE,
            field=field,
        )
    return second


def require_nothing_stated(statement: Statement) -> None:
    """Malformed where a Service Reference Variant or a User ID is stated, which nothing here could be held against."""
    for name in ("service_reference_variant", "user_id"):
        if getattr(statement, name):
            raise Malformed(
                f"a SMETS1 Device's request is asked for without {name}; leave it out",
                rule="dlms/statement",
                field=name,
            )


def result_octets(content: DlmsContent) -> int:
    """How many octets the module has to give."""
    if content.security == AUTHENTICATED:
        return framing.TAG_OCTETS
    made = framing.TAG_OCTETS if content.way is Way.PROTECT and content.security == BOTH else 0
    return len(content.text) + made


def require_verified(content: DlmsContent, made: bytes) -> None:
    """Compare the tag made anew with the one claimed, in constant time; Forbidden where they differ."""
    if (
        content.way is Way.READ
        and content.security == AUTHENTICATED
        and not hmac.compare_digest(made, content.tag)
    ):
        raise not_verified()


def not_verified() -> Forbidden:
    """All that is said of a tag that does not verify."""
    return Forbidden("not verified", rule="dlms/not-verified", clause=CLAUSE)


def assemble(content: Content, made: bytes, kind: str = "encryption") -> bytes:
    """The APDU for the Device, or the answer to its challenge; of what was read, what it was read from.

    `kind` is that of the key: what is protected under a dedicated key has APDUs of its own.
    """
    if not isinstance(content, DlmsContent):
        raise Internal("not the content of a SMETS1 Device's key", rule="dlms/content")
    if content.way is Way.READ:
        return content.signed_bytes
    if len(made) != result_octets(content):
        raise Corrupt("what the module made is not what was asked of it", rule="check/dlms")
    header = bytes((content.security,)) + content.counter
    if content.kind is ContentKind.DLMS_CHALLENGE:
        return header + made
    body = content.text + made if content.security == AUTHENTICATED else made
    return framing.wrap(content.request_tag, content.system_title, header + body, dedicated=kind == DEDICATED)


def tag_of(content: DlmsContent, made: bytes) -> bytes:
    """The tag of what was protected, 12 octets; empty where there is none."""
    return made[-framing.TAG_OCTETS :] if content.way is Way.PROTECT and content.authenticated else b""


def plaintext(content: DlmsContent, made: bytes) -> bytes:
    """What was read: decrypted, or what stood in the clear and is authentic."""
    return content.text if content.security == AUTHENTICATED else made


def taken_apart(form: ContentForm, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """System title, counter and text of what is to be protected; Malformed, and WrongState for the last counter."""
    if not _PREFIX_OCTETS < len(payload) <= LARGEST_OCTETS:
        raise wrong(
            f"a system title of 8 octets, a counter of 4 and what is protected, at most {LARGEST_OCTETS} octets",
            "too-long" if len(payload) > LARGEST_OCTETS else "truncated",
            form.value,
        )
    counter = payload[TITLE_OCTETS:_PREFIX_OCTETS]
    if int.from_bytes(counter) == HIGHEST_COUNTER:
        raise WrongState(
            "the invocation counter has reached its end; the key is changed before it protects anything more",
            rule="dlms/counter-exhausted",
            clause=CLAUSE,
            field="invocation_counter",
        )
    return payload[:TITLE_OCTETS], counter, payload[_PREFIX_OCTETS:]
