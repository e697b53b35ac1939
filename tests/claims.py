"""Claims as the corridor would make them, for tests of what comes after the claim.

Example:
    >>> claim_to_sign(key_record(label="k", object_id=b"\\x01", public_point=point), b"the judged bytes")
"""

import itertools
import time

from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal, Request
from cryptosvc.core.content.base import Content
from cryptosvc.core.judge import Authorised
from cryptosvc.core.names import (
    CallerId,
    ContentForm,
    ContentKind,
    Environment,
    KeyId,
    ModuleName,
    Operation,
    RequestId,
    SystemName,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.record import Claim
from cryptosvc.core.registry import CallerRecord, CallerState, KeyRecord, KeyState, Origin

SYSTEM = SystemName("supplier-1")
_numbers = itertools.count(1)


def key_record(
    *,
    label: str = "signing-key",
    object_id: bytes = b"\x01",
    public_point: bytes = b"",
    module: str = "module",
    key_id: str = "",
    key_class: str = "audit-signing",
) -> KeyRecord:
    """An active key of `SYSTEM`; `key_id` is the label where none is given."""
    return KeyRecord(
        key_id=KeyId(key_id or label),
        version=1,
        key_class=key_class,
        state=KeyState.ACTIVE,
        system=SYSTEM,
        environment=Environment.TEST,
        module=ModuleName(module),
        label=label,
        object_id=object_id,
        public_point=public_point,
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=False,
        signs_for_eligible_user=False,
    )


def caller_record() -> CallerRecord:
    """A registered caller of `SYSTEM`."""
    return CallerRecord(
        caller_id=CallerId("caller-1"),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=bytes(32),
        system=SYSTEM,
        user_roles=frozenset({UserRole.IMPORT_SUPPLIER}),
        user_ids=frozenset(),
        grants=(),
    )


def module_facts(module: str = "module") -> ModuleFacts:
    """A module without a certificate, in the United Kingdom."""
    return ModuleFacts(
        name=ModuleName(module), standard="", level=0, certificate="", country="GB", worker_country="GB"
    )


def case_to_sign(key: KeyRecord, signed_bytes: bytes) -> Case:
    """A case whose content is `signed_bytes`."""
    return Case(
        request=Request(
            request_id=RequestId(f"request-{next(_numbers)}"),
            key_id=key.key_id,
            form=ContentForm.TBS_CERTIFICATE,
            payload=signed_bytes,
        ),
        principal=Principal(caller=caller_record(), peer="ipv4:127.0.0.1:1"),
        content=Content(kind=ContentKind.LOG_CHECKPOINT, signed_bytes=signed_bytes),
        key=key,
        module=module_facts(key.module),
        facts=Facts(
            operation=Operation.SIGN,
            key_class=key.key_class,
            content_kind=ContentKind.LOG_CHECKPOINT,
            state=key.state,
            origin=key.origin,
            environment=key.environment,
            user_role=None,
            same_system=True,
            granted=True,
            module_standard="",
            module_level=0,
            in_united_kingdom=True,
            supply_sensitive=False,
            supply_sensitive_check=False,
            eligible_user_key=False,
        ),
        generation=1,
        at=UnixNanoseconds(time.time_ns()),
        time_quality="unsynchronised",
    )


def authorised_to_sign(key: KeyRecord, signed_bytes: bytes) -> Authorised:
    """An authorised case."""
    return Authorised(case_to_sign(key, signed_bytes), "G2.27", ("policy",), "0" * 64)


def claim_to_sign(key: KeyRecord, signed_bytes: bytes, *, seconds: float = 60.0) -> Claim:
    """A claim whose deadline is `seconds` from now."""
    deadline = UnixNanoseconds(time.time_ns() + int(seconds * 1e9))
    return Claim(authorised_to_sign(key, signed_bytes), f"claim-{next(_numbers)}", deadline)
