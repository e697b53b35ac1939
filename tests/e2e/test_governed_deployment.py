"""From a signed genesis to a destroyed key: real processes, mutual TLS and SoftHSM2, nothing without its approvals.

Covers SEC G5.13(b) (from ordered to destroyed), G4.7 (custodians), G2.20 (callers under the same control), G2.60, G2.61.
"""

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cryptosvc.client.calls import Client
from cryptosvc.client.errors import AwaitingApproval, Conflict, NotPermitted, Unidentified, WrongState
from cryptosvc.client.keys import RemotePrivateKey
from cryptosvc.core import statement as statements
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.names import CallerId, Eui64, SystemName, UserRole
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, caller_document
from tests import certificates, governed, precommands, smki
from tests.deployment import Deployment, pre_command_request
from tests.governed import Office

KEY = "supplier-signing"
ENTITY = str(precommands.SUPPLIER)


def caller(deployment: Deployment, name: str, *classes: str, version: int = 1) -> JsonValue:
    """A caller's record document."""
    certificate = x509.load_pem_x509_certificate((deployment.folder / "tls" / f"{name}.pem").read_bytes())
    acts = name == "supplier"
    record = CallerRecord(
        caller_id=CallerId(name),
        version=version,
        state=CallerState.REGISTERED,
        certificate_sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest(),
        system=SystemName("fault"),
        user_roles=frozenset({UserRole.IMPORT_SUPPLIER if acts else UserRole.DCC}),
        user_ids=frozenset({Eui64.parse(ENTITY)}) if acts else frozenset(),
        grants=tuple(Grant(operation="sign", key_class=one) for one in classes),
    )
    return json.loads(json.dumps(caller_document(record)))


def authorities(office: Office, operator: Client) -> x509.Certificate:
    """A Root OCA and an Issuing OCA, each step governed; the Issuing OCA Certificate."""
    start = smki.now() - timedelta(minutes=1)
    office.key("root-oca", "root-oca", role=0)
    office.carry("key.activate", "root-oca")
    root_key = RemotePrivateKey.of(operator, "root-oca")
    builder = certificates.root_builder(root_key.public_key(), "ZZ", 0x11, start, 18_263)
    root = builder.sign(root_key, hashes.SHA256())
    office.carry("key.certify", "root-oca", certificate=smki.der(root).hex(), issuer="root-oca")
    office.key("issuing-oca", "issuing-oca", role=7)
    issuing_key = RemotePrivateKey.of(operator, "issuing-oca")
    builder = certificates.issuing_builder(smki.der(root), issuing_key.public_key(), "Z9", 0x22, start, 9132)
    issuing = builder.sign(root_key, hashes.SHA256())
    office.carry("key.certify", "issuing-oca", certificate=smki.der(issuing).hex(), issuer="root-oca")
    office.carry("key.activate", "issuing-oca")
    return issuing


def certified(office: Office, operator: Client, supplier: Client, issuing: x509.Certificate) -> None:
    """The supplier's key asks for its certificate before it is active, and gets it."""
    key = RemotePrivateKey.of(supplier, KEY)
    subject = certificates.organisation_name(2, ENTITY)
    asked = certificates.csr_builder(subject).sign(key, hashes.SHA256())
    assert asked.is_signature_valid
    builder = certificates.organisation_builder(
        smki.der(issuing),
        asked.public_key(),  # type: ignore[arg-type]  # it is the P-256 key above
        entity=ENTITY,
        start=smki.now() - timedelta(seconds=30),
    )
    made = builder.sign(RemotePrivateKey.of(operator, "issuing-oca"), hashes.SHA256())
    office.carry("key.certify", KEY, certificate=smki.der(made).hex(), issuer="issuing-oca")


def refused_everywhere(deployment: Deployment, counter: int) -> None:
    """Sixteen connections, over both workers, all refuse at once."""
    for number in range(16):
        with deployment.client("supplier", connections=1) as client, pytest.raises(WrongState) as refused:
            client.sign(pre_command_request(counter + number, key_id=KEY))
        assert refused.value.rule == "lifecycle/state"


def test_nothing_happens_without_its_approvals_from_genesis_to_destruction(tmp_path: Path):
    deployment, people = governed.founded(tmp_path)
    for name in ("operator", "supplier"):
        deployment.identity(name)
    with deployment.serving(), deployment.client("office") as client:
        office = Office(client, people)
        # callers: nobody signs until they are registered, and granted, under dual control
        with deployment.client("supplier") as supplier, pytest.raises(Unidentified):
            supplier.list_keys()
        office.carry(
            "caller.register", "operator", record=caller(deployment, "operator", "root-oca", "issuing-oca")
        )
        office.carry("caller.register", "supplier", record=caller(deployment, "supplier", "command-signing"))
        with deployment.client("operator") as operator, deployment.client("supplier") as supplier:
            issuing = authorities(office, operator)
            office.key(KEY, "command-signing", role=2, eui64=ENTITY)
            with pytest.raises(WrongState):
                supplier.sign(pre_command_request(1, key_id=KEY))
            certified(office, operator, supplier, issuing)
            # two people approve an activation, one is not enough, and the proposer is none of them
            waiting = office.proposed("key.activate", KEY, ("ben",))
            with pytest.raises(AwaitingApproval):
                office.calls.execute(waiting)
            statement = statements.parse(office.calls.proposal(waiting).statement)
            with pytest.raises(NotPermitted) as self_approved:
                office.calls.approve(waiting, people["ada"].endorse(statement))
            assert self_approved.value.rule == "quorum/self-approval"
            office.carry("key.activate", KEY)
            office.calls.approve(waiting, people["cat"].endorse(statement))
            with pytest.raises(Conflict) as too_late:
                office.calls.execute(waiting)
            assert too_late.value.rule == "statement/version"
            signed = supplier.sign(pre_command_request(2, key_id=KEY))
            assert signed.clause
            # an emergency: one other person stops the key, on every worker, from that moment
            office.carry("key.suspend", KEY, ("dan",))
            refused_everywhere(deployment, 100)
            office.carry("key.resume", KEY)
            supplier.sign(pre_command_request(3, key_id=KEY))
            # another key takes its place
            office.key("supplier-next", "command-signing", role=2, eui64=ENTITY)
            office.carry("key.activate", "supplier-next")
            office.carry("key.supersede", KEY, by="supplier-next")
            with pytest.raises(WrongState):
                supplier.sign(pre_command_request(4, key_id=KEY))
            supplier.sign(pre_command_request(4, key_id="supplier-next"))
            destroyed = office.carry("key.destroy", KEY)
            assert destroyed.proposal.outcome["objects_left"] == "0"
            assert int(destroyed.proposal.outcome["objects_destroyed"]) == 2
            office.carry("key.deactivate", "supplier-next")
            office.carry("caller.revoke", "supplier", ("ben",))
            with pytest.raises(Unidentified):
                supplier.list_keys()
        states = {
            one["key_id"]: one["state"]
            for one in (json.loads(found.document) for found in office.calls.records("key-record"))
        }
        assert (states[KEY], states["supplier-next"], states["root-oca"]) == (
            "destroyed",
            "deactivated",
            "active",
        )
    # everything derives again, off-line, from what was approved
    log = deployment.verified_log()
    first = log.entries[0].fields
    assert (first["shortcut"], first["operation"]) == (False, "found")
    assert {tuple(one.fields["because"]) for one in log.of_kind("key-record")} == {
        ("genesis",),
        ("proposal",),
    }
    # the shortcut is closed for ever
    (tmp_path / "provisioning.toml").write_text("")
    done = deployment.run(
        "init", "--config", str(deployment.config), str(tmp_path / "provisioning.toml"), "--json"
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["rule"] == "init/no-shortcut"


def test_a_key_is_ordered_on_the_command_line(tmp_path: Path):
    deployment, _ = governed.founded(tmp_path)
    statement = tmp_path / "order.json"
    with deployment.serving():
        parameters = ("class=command-signing", "module=softhsm", "classification=secret", "responsible=Ada")
        given = [word for one in parameters for word in ("--param", one)]
        propose = ("propose", "key.order", "key-1", "--key", str(tmp_path / "ada.pem"), "--reason", "test")
        code, _ = governed.on_command_line(deployment, *propose, "-o", str(statement), *given)
        assert code == 0
        envelopes = [f"{statement}.dsse"]
        for name in ("ben", "cat"):
            envelope = str(tmp_path / f"{name}.dsse")
            key = str(tmp_path / f"{name}.pem")
            deployment.json("approve", str(statement), "--key", key, "-o", envelope, "--yes")
            envelopes.append(envelope)
        code, handed_in = governed.on_command_line(deployment, "submit", *envelopes)
        assert code == 0
        assert [one["approvals"] for one in handed_in] == ["0 of 2", "1 of 2", "2 of 2"]
        proposal_id = handed_in[0]["proposal_id"]
        code, done = governed.on_command_line(deployment, "execute", proposal_id)
        assert (code, done["state"], done["records"][0]["state"]) == (0, "done", "ordered")
        code, refused = governed.on_command_line(deployment, "execute", proposal_id)
        assert (code, refused["error"]["rule"]) == (3, "proposal/not-open")
        _, assets = governed.on_command_line(deployment, "asset", "list")
        assert {one["id"]: one["responsible"] for one in assets}["key-1"] == "Ada"
        _, custodians = governed.on_command_line(deployment, "custodian", "list")
        assert [one["custodian_id"] for one in custodians] == list(governed.NAMES)
        _, listed = governed.on_command_line(deployment, "proposal", "list")
        assert [one["proposal_id"] for one in listed] == [proposal_id]
