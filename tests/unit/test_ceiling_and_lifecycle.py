"""The class table and the lifecycle table, cell by cell against the clauses they come from."""

import pytest

from cryptosvc.core import lifecycle
from cryptosvc.core.errors import Forbidden, WrongState
from cryptosvc.core.keyclass import KEY_CLASSES, Algorithm, Usage, ceiling
from cryptosvc.core.names import ContentKind, Operation, RemotePartyRole
from cryptosvc.core.registry import KeyState

CSR = ContentKind.CERTIFICATION_REQUEST

# What the Code lets each class sign; written again from the clauses, so that a widened table fails here.
MAY_SIGN = {
    "root-oca": {ContentKind.OCA_CERTIFICATE, CSR, ContentKind.ORGANISATION_ARL},
    "issuing-oca": {ContentKind.ORGANISATION_CERTIFICATE, CSR, ContentKind.ORGANISATION_CRL},
    "command-signing": {ContentKind.GBCS_PRE_COMMAND, CSR},
    "recovery": {ContentKind.GBCS_PRE_COMMAND, CSR},
    "contingency": {ContentKind.GBCS_PRE_COMMAND},
    "xml-signing": {ContentKind.DUIS_DOCUMENT, CSR},
    "key-agreement": set(),
    "prepayment": set(),
    "tls": {ContentKind.TLS_HANDSHAKE},
    "audit-signing": {ContentKind.LOG_CHECKPOINT},
    "service-signing": {ContentKind.SERVICE_STATEMENT},
    "log-authentication": set(),
    "storage-wrapping": set(),
    "storage-binding": set(),
    "device-transport": set(),
    "smets1-encryption": set(),
    "smets1-authentication": set(),
    "smets1-master": set(),
    "smets1-hls-secret": set(),
    "smets1-dedicated": set(),
}
CLAUSE = {
    "root-oca": "G2.60",
    "issuing-oca": "G2.61",
    "command-signing": "G2.56",
    "recovery": "G2.56",
    "contingency": "G2.56",
    "xml-signing": "G3.29",
    "key-agreement": "G2.44(b)",
    "prepayment": "G3.22",
    "tls": "G2.44(d)",
    "storage-wrapping": "G5.13(b)",
    "storage-binding": "G5.13(b)",
    "device-transport": "G5.13(b)",
}
MAY_AGREE = {
    "key-agreement": {
        (Operation.MAC, ContentKind.GBCS_COMMAND),
        (Operation.VERIFY, ContentKind.GBCS_ANSWER),
        (Operation.DECRYPT, ContentKind.ENCRYPTED_ATTRIBUTES),
    },
    "prepayment": {(Operation.MAC, ContentKind.TOP_UP)},
}
"""What is done with keys that a class agrees, G2.44(b), G2.45, G3.22."""


CHANGED = (Operation.ACCOMPANY, ContentKind.DLMS_KEY_CHANGE)
PROTECTED = (ContentKind.DLMS_CIPHERED, ContentKind.DLMS_AUTHENTICATED, ContentKind.DLMS_CHALLENGE)
OF_DEVICES = {
    "smets1-encryption": {
        (Operation.ENCRYPT, ContentKind.DLMS_CIPHERED),
        (Operation.MAC, ContentKind.DLMS_AUTHENTICATED),
        (Operation.MAC, ContentKind.DLMS_CHALLENGE),
        (Operation.DECRYPT, ContentKind.DLMS_ANSWER),
        (Operation.ENCRYPT, ContentKind.DLMS_ASSOCIATION),
        CHANGED,
    },
    "smets1-dedicated": {
        (Operation.ENCRYPT, ContentKind.DLMS_CIPHERED),
        (Operation.MAC, ContentKind.DLMS_AUTHENTICATED),
        (Operation.DECRYPT, ContentKind.DLMS_ANSWER),
    },
    "smets1-authentication": {
        (Operation.ACCOMPANY, kind)
        for kind in (*PROTECTED, ContentKind.DLMS_ANSWER, ContentKind.DLMS_ASSOCIATION)
    }
    | {CHANGED},
    "smets1-master": {(Operation.WRAP, ContentKind.DLMS_KEY_CHANGE), CHANGED},
    "smets1-hls-secret": {CHANGED},
}
"""What is done with the keys of a SMETS1 Device, G2.44(c), (e)."""


def test_the_table_has_exactly_these_classes():
    assert set(KEY_CLASSES) == set(MAY_SIGN)


@pytest.mark.parametrize("name", MAY_SIGN)
@pytest.mark.parametrize("kind", list(ContentKind))
@pytest.mark.parametrize("operation", list(Operation))
def test_every_cell(name, kind, operation):
    row = ceiling(name)
    allowed = (operation is Operation.SIGN and kind in MAY_SIGN[name]) or (
        operation,
        kind,
    ) in (MAY_AGREE | OF_DEVICES).get(name, ())
    assert row.permits(operation, kind) is allowed
    if allowed:
        assert row.clause_for(operation, kind).startswith("G")
        return
    with pytest.raises(Forbidden) as refusal:
        row.clause_for(operation, kind)
    assert refusal.value.rule == "ceiling/purpose"
    assert refusal.value.clause == CLAUSE.get(name, "G2.44(c), (e)" if name in OF_DEVICES else "G2.27")
    assert refusal.value.field == "key_id"


def test_an_unknown_class_is_forbidden_and_never_a_default():
    for name in ("", "ROOT-OCA", "root-oca ", "transport"):
        with pytest.raises(Forbidden):
            ceiling(name)


@pytest.mark.parametrize("name", MAY_SIGN)
def test_no_row_lets_an_object_do_two_things(name):
    # A signing key that derives, or a wrapping key that decrypts, is how keys leave a module.
    usages = ceiling(name).template.usages
    if name in MAY_AGREE:
        assert usages == {Usage.DERIVE}
    elif ceiling(name).template.algorithm is Algorithm.EC_P256:
        assert usages == {Usage.SIGN}
    elif name in OF_DEVICES:
        assert usages == DEVICE_USAGES.get(name, set())
    elif name == "storage-wrapping":
        assert usages == {Usage.WRAP, Usage.UNWRAP}
    elif name == "device-transport":
        assert usages == {Usage.UNWRAP}
    else:
        assert usages == {Usage.SIGN, Usage.VERIFY}


DEVICE_USAGES = {
    "smets1-encryption": {Usage.ENCRYPT, Usage.DECRYPT},
    "smets1-dedicated": {Usage.ENCRYPT, Usage.DECRYPT},
    "smets1-master": {Usage.WRAP},
}
"""An authentication key and an HLS secret do nothing as objects of a module."""


def test_log_keys_never_leave_their_module():
    assert not ceiling("audit-signing").template.transferable
    assert not ceiling("log-authentication").template.transferable


def test_every_signature_is_verified_before_release_and_level_3_is_the_least():
    for row in KEY_CLASSES.values():
        assert row.verified_before_release is (bool(MAY_SIGN[row.name]))
        assert row.assurance_level >= 3
        assert row.quorum >= 2
        assert row.crypto_period_days > 0


def test_no_remote_party_role_belongs_to_two_classes():
    # a party's certificates for key agreement carry the role that its certificates for signatures carry
    seen: dict[RemotePartyRole, str] = {}
    assert ceiling("key-agreement").roles >= {RemotePartyRole.ACCESS_CONTROL_BROKER, RemotePartyRole.SUPPLIER}
    assert ceiling("prepayment").roles == {RemotePartyRole.SUPPLIER}
    for row in (row for row in KEY_CLASSES.values() if row.name not in MAY_AGREE):
        for role in row.roles:
            assert seen.setdefault(role, row.name) == row.name
    assert seen[RemotePartyRole.XML_SIGN] == "xml-signing"
    assert seen[RemotePartyRole.SUPPLIER] == "command-signing"


@pytest.mark.parametrize("state", list(KeyState))
@pytest.mark.parametrize("kind", list(ContentKind))
@pytest.mark.parametrize("operation", list(Operation))
def test_every_state(state, kind, operation):
    applies = (Operation.SIGN, Operation.MAC, Operation.ENCRYPT, Operation.WRAP, Operation.ACCOMPANY)
    allowed = (operation in applies and state is KeyState.ACTIVE) or (
        state is KeyState.PRE_ACTIVATION
        and (operation, kind) in ((Operation.SIGN, CSR), (Operation.ACCOMPANY, ContentKind.DLMS_KEY_CHANGE))
    )
    reads = (operation, kind) == (Operation.ACCOMPANY, ContentKind.DLMS_ANSWER)
    if reads or operation in (Operation.VERIFY, Operation.DECRYPT):  # what was protected before is read after
        allowed = state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.DEACTIVATED)
    assert lifecycle.permits(state, operation, kind) is allowed
    if allowed:
        lifecycle.require(state, operation, kind)
        return
    with pytest.raises(WrongState) as refusal:
        lifecycle.require(state, operation, kind)
    assert refusal.value.clause == "G5.13(b)"


def test_the_tables_cannot_be_changed_at_run_time():
    with pytest.raises(TypeError):
        lifecycle.ALLOWED[KeyState.SUSPENDED] = frozenset()
    with pytest.raises(TypeError):
        KEY_CLASSES["root-oca"] = None
    with pytest.raises(TypeError):
        ceiling("root-oca").ceiling[(Operation.SIGN, ContentKind.GBCS_PRE_COMMAND)] = "none"
