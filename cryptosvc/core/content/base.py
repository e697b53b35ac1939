"""The value every content inspector makes, and the two kinds of promise it may ask of the claim."""

from dataclasses import dataclass

from cryptosvc.core.names import ContentKind


@dataclass(frozen=True, slots=True)
class Once:
    """Under (key, scope, value) only ever these bytes: the same digest again is fine, another is a Conflict.

    Args:
        scope: what is being counted, as `gbcs-counter` or `certificate-serial`.
        value: canonical text of the tuple, printable ASCII, at most 200 characters.
        digest: SHA-256 of the signed bytes, 32 octets.

    """

    scope: str
    value: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Rising:
    """Under (key, scope) each number is greater than every one claimed before (a CRL number).

    Args:
        scope: what is being counted, as `crl-number`.
        number: 0 to 2**159 - 1 (RFC 5280 5.2.3: at most 20 octets).

    """

    scope: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A payload parsed completely.

    Args:
        kind: what it is.
        signed_bytes: exactly the bytes the signature is over.
        facts: flat (name, text) pairs for the record and for policy: message code, originator, target, counter,
            serial, … Printable ASCII, no plaintext, sorted by name.
        promises: what the claim must take before the key moves.
        service_reference_variants: every Service Reference Variant this content can belong to, sorted; empty where
            it has none. Read from the bytes, never from the caller.

    """

    kind: ContentKind
    signed_bytes: bytes
    facts: tuple[tuple[str, str], ...] = ()
    promises: tuple[Once | Rising, ...] = ()
    service_reference_variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the caller says beside the payload; each part is checked against the payload, none is believed.

    Args:
        service_reference_variant: as `7.1`; empty where the communication has none.
        user_id: the EUI-64 of the User the communication is for, in text form; empty where there is none.
        user_role: a `UserRole` by its text; empty where there is none.

    """

    service_reference_variant: str = ""
    user_id: str = ""
    user_role: str = ""
