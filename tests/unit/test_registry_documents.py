"""Records are read only as they are printed; the leaf commits to the document."""

import orjson
import pytest

from cryptosvc.core.canonical import canonical, digest
from cryptosvc.core.commitments import commitment
from cryptosvc.core.errors import Malformed
from cryptosvc.core.founding import genesis_leaf
from cryptosvc.core.names import (
    CallerId,
    Environment,
    Eui64,
    KeyId,
    ModuleName,
    RemotePartyRole,
    SystemName,
    UnixNanoseconds,
    UserRole,
)
from cryptosvc.core.record import Scope, registered_leaf
from cryptosvc.core.registry import (
    CallerRecord,
    CallerState,
    Grant,
    KeyRecord,
    KeyState,
    Origin,
    caller_document,
    caller_from_document,
    key_document,
    key_from_document,
    record_digest,
)

KEY = KeyRecord(
    key_id=KeyId("supplier-1"),
    version=3,
    key_class="command-signing",
    state=KeyState.SUSPENDED,
    system=SystemName("dcc-test"),
    environment=Environment.TEST,
    module=ModuleName("soft"),
    label="supplier-1",
    object_id=b"\x01\x02",
    public_point=b"\x04" + bytes(64),
    certificate=b"\x30\x03\x02\x01\x01",
    eui64=Eui64(bytes(8)),
    role=RemotePartyRole.SUPPLIER,
    origin=Origin.ADOPTED,
    transferable=False,
    signs_for_eligible_user=True,
)
CALLER = CallerRecord(
    caller_id=CallerId("supplier"),
    version=1,
    state=CallerState.REGISTERED,
    certificate_sha256=bytes(32),
    system=SystemName("dcc-test"),
    user_roles=frozenset({UserRole.IMPORT_SUPPLIER, UserRole.GAS_SUPPLIER}),
    user_ids=frozenset({Eui64(bytes(8)), Eui64(b"\x01" * 8)}),
    grants=(Grant(operation="sign", key_class="command-signing", key_ids=frozenset({"b", "a"})),),
    auditor=True,
    supply_sensitive_checker_key=b"\x30",
)
SCOPE = Scope(system="dcc-test", environment="test", worker="w1", software="0")


def reread(document: object) -> dict[str, object]:
    return orjson.loads(orjson.dumps(document))


def test_documents_survive_the_store() -> None:
    assert key_from_document(reread(key_document(KEY))) == KEY
    assert caller_from_document(reread(caller_document(CALLER))) == CALLER


@pytest.mark.parametrize("name", sorted(key_document(KEY)))
@pytest.mark.parametrize("value", [[], 1.5, "\x00", "AB", {"a": 1}, True, -1])
def test_a_key_document_with_any_other_value_is_refused_or_prints_as_it_was_read(
    name: str, value: object
) -> None:
    document = reread(key_document(KEY)) | {name: value}
    try:
        found = key_from_document(document)
    except Malformed:
        return
    assert key_document(found) == document


@pytest.mark.parametrize("name", sorted(caller_document(CALLER)))
def test_a_caller_document_without_a_field_or_with_one_more_is_refused(name: str) -> None:
    document = reread(caller_document(CALLER))
    with pytest.raises(Malformed, match="not a caller record"):
        caller_from_document({key: value for key, value in document.items() if key != name})
    with pytest.raises(Malformed):
        caller_from_document(document | {name + "_": 1})
    with pytest.raises(Malformed):
        caller_from_document(document | {name: 1.5})


def test_sets_in_another_order_are_refused() -> None:
    document = reread(caller_document(CALLER))
    roles = document["user_roles"]
    assert isinstance(roles, list)
    with pytest.raises(Malformed):
        caller_from_document(document | {"user_roles": list(reversed(roles))})


def test_the_leaf_of_a_key_names_it_and_commits_to_its_document() -> None:
    leaf = registered_leaf(KEY, SCOPE, UnixNanoseconds(5), "synchronised", bytes(16))
    entry = orjson.loads(leaf.entry)
    assert (entry["kind"], entry["key"], entry["record_version"], entry["state"]) == (
        "key-record",
        "supplier-1",
        3,
        "suspended",
    )
    assert entry["record_digest"] == digest(key_document(KEY)).hex() == record_digest(KEY).hex()
    assert entry["because"] == {"init": ""}
    assert entry["approvals"] == []
    beside = orjson.loads(leaf.withheld)
    assert list(beside) == ["document"]
    assert orjson.loads(beside["document"][1]) == reread(key_document(KEY))


def test_the_leaf_of_a_caller_withholds_its_id() -> None:
    leaf = registered_leaf(CALLER, SCOPE, UnixNanoseconds(5), "synchronised", b"\x07" * 16)
    entry, beside = orjson.loads(leaf.entry), orjson.loads(leaf.withheld)
    salt, value = beside["caller"]
    assert value == "supplier"
    assert b"supplier" not in leaf.entry
    assert entry["commitments"]["caller"] == commitment(bytes.fromhex(salt), "caller", value)
    assert set(entry["commitments"]) == {"caller", "document"}
    assert canonical(entry) == leaf.entry


def test_genesis_names_log_system_and_environment() -> None:
    entry = orjson.loads(genesis_leaf("example.test/log", SCOPE, UnixNanoseconds(5), "synchronised").entry)
    assert (entry["kind"], entry["origin"], entry["system"], entry["environment"]) == (
        "genesis",
        "example.test/log",
        "dcc-test",
        "test",
    )
