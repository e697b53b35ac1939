"""A case: everything a decision may depend on, gathered before anyone decides."""

from dataclasses import dataclass, field

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.x509.profile import KnownOca
from cryptosvc.core.names import (
    NO_KEY,
    ContentForm,
    ContentKind,
    Environment,
    KeyId,
    ModuleName,
    Operation,
    RequestId,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.registry import CallerRecord, KeyRecord, KeyState, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An identified caller: the record its TLS peer certificate led to, as of one registry generation.

    Args:
        caller: the record, believed because the log proves it.
        peer: transport address, for the record only.

    """

    caller: CallerRecord
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing asked, as converted from the wire and not yet read.

    Args:
        request_id: chosen by the caller, unique per caller; 1 to 64 printable ASCII characters.
        key_id: the key meant.
        form: what the payload is said to be.
        payload: the whole of it, at most the configured size.
        statement: service reference variant, User ID, User Role.
        supply_sensitive_check: DSSE envelope (JSON) of the checking system; empty where none is attached.
        origin_statement: DSSE envelope (JSON) of the other relevant system; empty where none is attached.
        device_certificate: DER of the Device's key agreement certificate, for a MAC; empty otherwise.
        second_key: the other key of a SMETS1 Device that takes part; empty otherwise.
        association: the sealed dedicated key of an Application Association; empty otherwise.

    """

    request_id: RequestId
    key_id: KeyId
    form: ContentForm
    payload: bytes
    statement: Statement = field(default=Statement())
    supply_sensitive_check: bytes = b""
    origin_statement: bytes = b""
    device_certificate: bytes = b""
    second_key: KeyId = NO_KEY
    association: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFacts:
    """What the module reported and its assurance statement says; they were compared before the module was used.

    Args:
        name: the configured name.
        standard: as `FIPS 140-2`; empty for a module without a certificate.
        level: 0 to 4.
        certificate: number of the validation certificate; empty where none.
        country: ISO 3166 alpha-2 of the place the module stands.
        worker_country: the same for this worker process.

    """

    name: ModuleName
    standard: str
    level: int
    certificate: str
    country: str
    worker_country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The categorical facts policy decides on; hashable, so that a decision can be cached by them.

    Args:
        operation: what is asked.
        key_class: class of the key.
        content_kind: what the payload turned out to be.
        state: lifecycle state of the key.
        origin: generated or adopted.
        environment: test or live.
        user_role: the role stated and held; empty where none is stated.
        same_system: caller and key belong to one system (G2.20, G4.8).
        granted: the caller's record grants this operation on this key.
        module_standard, module_level: assurance of the module.
        module_accepted: that standard is accepted at the time of the request (`core/assurance.py`).
        cos_party: the deployment is the CoS Party's (G2.44(a)).
        from_relevant_system: the content comes, or purports to come, from the other relevant system (G2.22B(a)).
        origin_verified: its origin and integrity are verified (`core/separation.py`).
        module_established: the Information Classification Scheme has the module for keys classified as this one.
        in_united_kingdom: module and worker both stand in the United Kingdom.
        supply_sensitive: the communication is of a configured Supply Sensitive Service Reference Variant.
        supply_sensitive_check: a Supply Sensitive Check over these very bytes was attached and verifies.
        eligible_user_key: the key signs for an Eligible User, as its record or its Remote Party Role says.
        add_credit: the plaintext of a DLMS request adds credit and does nothing else (G2.44A(a)).
        instruction: what is made is an Instruction: a whole DLMS request, read (G2.44A(b)).
        category_1: the Device is a Category 1 Device, as its manufacturer, model and firmware are configured.
        category_2: it is a Category 2 Device, likewise.
        one_association: the key is valid for one Application Association alone (G2.44A(c)).

    """

    operation: Operation
    key_class: str
    content_kind: ContentKind
    state: KeyState
    origin: Origin
    environment: Environment
    user_role: UserRole | None
    same_system: bool
    granted: bool
    module_standard: str
    module_level: int
    in_united_kingdom: bool
    supply_sensitive: bool
    supply_sensitive_check: bool
    eligible_user_key: bool
    module_accepted: bool = False
    module_established: bool = False
    cos_party: bool = False
    from_relevant_system: bool = False
    origin_verified: bool = False
    add_credit: bool = False
    instruction: bool = False
    category_1: bool = False
    category_2: bool = False
    one_association: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswer:
    """What the policy engine said about one set of facts.

    Args:
        allowed: permit without any evaluation error.
        policies: ids of the determining policies, sorted.
        clauses: clauses of those policies, sorted, no duplicates.
        text: for a refusal, the sentence of the deciding policy; empty for a permit.
        digest: SHA-256 of policy set and schema, lower-case hex.
        rule: for a refusal, why: `policy/refused`, or `policy/evaluation-error` where a policy failed to evaluate.

    """

    allowed: bool
    policies: tuple[str, ...]
    clauses: tuple[str, ...]
    text: str
    digest: str
    rule: str = "policy/refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """The other key of a request, with facts of its own: it is judged as the first is.

    Args:
        key: the key record.
        facts: what policy decides on; the operation is ACCOMPANY.

    """

    key: KeyRecord
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request with all that is needed to judge it.

    Args:
        request: as asked.
        principal: who asks.
        content: what the payload turned out to be.
        key: the key record.
        module: the module that holds the key.
        facts: the categorical facts.
        generation: registry generation at which caller and key were read; `claim` checks that it still stands.
        at: when the case was gathered.
        time_quality: how good that time is, as the Clock port says (`synchronised`, `unsynchronised`).
        registered_oca: OCA Certificates of the registered keys; gathered for an Organisation ARL, empty otherwise.
        second: the other key that takes part; None where there is none.

    """

    request: Request
    principal: Principal
    content: Content
    key: KeyRecord
    module: ModuleFacts
    facts: Facts
    generation: int
    at: UnixNanoseconds
    time_quality: str
    registered_oca: frozenset[KnownOca] = frozenset()
    second: Second | None = None
