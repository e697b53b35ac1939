"""Two deployments, each with its own processes, token, store and log: keys move, and either log is verified afterwards.

From SoftHSM2 to SoftHSM2, as custodians do it: acts handed in over mutual TLS, modules and papers through the command
line. Every step in which a module has a part is killed with SIGKILL, export and import at every moment, and goes on; a second transfer is declined and comes back. To NSS
softokn keys of every class move in `test_moved_keys_work.py`, by the same steps. Covers SEC G2.22F to G2.22I.
"""

import json
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from cryptosvc.cli.console import VERIFICATION_FAILED
from cryptosvc.client.errors import CallError, Conflict, WrongState
from cryptosvc.core import dsse
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.custodian import CustodianRole, custodian_document
from cryptosvc.core.handover import logged
from cryptosvc.core.names import SystemName
from cryptosvc.core.transfer.states import TransferState
from cryptosvc.wiring.exporting import public_key_der as read_public_key
from tests import governed, killed_transfer, precommands
from tests.deployment import Deployment, pre_command_request
from tests.device_files import Source
from tests.device_rows import row
from tests.device_sealing import Storage, arrived, check_value
from tests.governance import Person, person
from tests.governed import Office
from tests.hsm_fixtures import TestToken, make_softhsm

KEY = "supplier-signing"
SECOND = "second-signing"
TRANSFER = "move-1"
STORAGE = {
    "epoch-1": "storage-wrapping",
    "binding-1": "storage-binding",
    "transport-1": "device-transport",
}
MOMENTS = tuple(killed_transfer.MOMENTS)
PMA = ("pat", "pia")


class End:
    """One deployment, its custodians, and the folder of papers it works on."""

    def __init__(
        self, folder: Path, system: str, papers: Path, make_token: Callable[..., TestToken], more: str = ""
    ) -> None:
        self.deployment, self.people = governed.founded(
            folder, system=system, make_token=make_token, more=more
        )
        self.papers = papers
        self.transfer = TRANSFER
        self.office: Office

    @property
    def config(self) -> tuple[str, ...]:
        return ("--config", str(self.deployment.config), "--caller", "office", "--folder", str(self.papers))

    def command(self, *arguments: str) -> dict:
        """`cryptosvc transfer …` on the machine; its JSON."""
        return self.deployment.json("transfer", *arguments, *self.config)

    def moved(self, step: str, *more: str, kill: Sequence[str] = (), **parameters: JsonValue) -> dict:
        """Propose, approve, carry out on the machine; killed at each of these moments, and gone on with."""
        proposal = self.office.proposed(
            f"transfer.{step}", self.transfer, ("ben", "cat", "dan"), **parameters
        )
        command = ("transfer", "carry-out", proposal, *more, *self.config, "--json")
        for moment in kill:
            self.deployment.environment[killed_transfer.MOMENT] = moment
            killed = self.deployment.run(*command, module="tests.killed_transfer")
            assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
            state = self.office.calls.proposal(proposal).state
            assert state == ("executing" if moment in ("begun", "module") else "done")
        done = self.deployment.json(*command[:-1])
        assert done["resumed"] is bool(kill)
        return done

    def file(self, name: str) -> str:
        return (self.papers / name).read_bytes().hex()

    def document(self, name: str) -> JsonValue:
        return json.loads((self.papers / name).read_bytes())

    def state(self, key_id: str = KEY) -> str:
        found = self.office.record("key", key_id)
        return "" if found is None else found["state"]


def device_keys(source: End, folder: Path) -> dict[str, bytes]:
    """Storage keys at the source, and keys of Devices under them, by their names; as a source sends them."""
    keys = {str(row(number).device): secrets.token_bytes(16) for number in range(70)}
    for name, key_class in STORAGE.items():
        source.office.key(name, key_class)
        source.office.carry("key.activate", name)
    config = ("--config", str(source.deployment.config))
    source.deployment.json("device-key", "transport", "transport-1", str(folder / "transport.pem"), *config)
    public = load_pem_public_key((folder / "transport.pem").read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    maker, file_key = Source(), secrets.token_bytes(32)
    lines = [arrived(file_key, number, key) for number, key in enumerate(keys.values())]
    storage = Storage(*(None,) * 4, public)  # type: ignore[arg-type]  # the public half is all a source has
    path = folder / "device-keys"
    digest = maker.write(path, storage, (), lines=lines, file_key=file_key, system="fault")
    source.office.carry("device-source.register", "maker", key=maker.key.hex())
    wanted = {"source": "maker", "manifest_sha256": digest, "keys": len(keys), "on_bad_line": "report"}
    source.office.carry("device-work.import", "import-1", **wanted)
    done = source.deployment.json("device-key", "import", "import-1", str(path), "--processes", "1", *config)
    assert done["accepted"] == len(keys)
    return keys


def register_pma(office: Office, people: Mapping[str, Person], system: str) -> None:
    for name, one in people.items():
        found = custodian_document(one.record)
        record = {**found, "system": system, "privileges": [], "security_check_on": None}
        office.carry("custodian.register", name, ("ben", "cat"), record=json.loads(json.dumps(record)))


def sign(end: End, counter: int, key_id: str = KEY) -> None:
    """The supplier asks for a signature on a Pre-Command."""
    with end.deployment.client() as client:
        client.sign(pre_command_request(counter, key_id=key_id))


def supplier(office: Office, deployment: Deployment, system: str) -> None:
    """A caller that may have Pre-Commands signed."""
    from tests.e2e.test_governed_deployment import caller

    record = caller(deployment, "supplier", "command-signing")
    assert isinstance(record, dict)
    office.carry("caller.register", "supplier", ("ben", "cat"), record={**record, "system": system})


def test_keys_move_from_one_deployment_to_another(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    with ThreadPoolExecutor() as pool:
        begun = [pool.submit(End, tmp_path / name, name, papers, make_softhsm) for name in ("fault", "next")]
        source, target = (one.result() for one in begun)
    pma = {name: person(name, CustodianRole.PMA_APPROVER, system=SystemName("any")) for name in PMA}
    (tmp_path / "pma").mkdir()
    for name, one in pma.items():
        public = one.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "pma" / f"{name}.pem").write_bytes(public)
        private = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(private)
    with ExitStack() as stack:
        for end, system in ((source, "fault"), (target, "next")):
            stack.enter_context(end.deployment.serving())
            end.office = Office(stack.enter_context(end.deployment.client("office")), end.people)
            register_pma(end.office, pma, system)
            supplier(end.office, end.deployment, system)
        source.office.key(KEY, "command-signing", role=2, eui64=str(precommands.SUPPLIER))
        source.office.carry("key.activate", KEY)
        devices = device_keys(source, tmp_path)
        moves(source, target, tmp_path, MOMENTS)
        moved_devices(source, target, devices)
        comes_back(source, target, tmp_path)
    for end in (source, target):
        end.deployment.verified_log()


def moved_devices(source: End, target: End, keys: Mapping[str, bytes]) -> None:
    """They are at the destination, under the storage keys that came with them, and nowhere else."""
    name = f"{next(iter(keys))}.encryption"
    (found,) = target.deployment.json("device-key", "show", name, "--config", str(target.deployment.config))[
        "versions"
    ]
    assert (found["state"], found["epoch"], found["work"]) == ("current", "epoch-1", f"receive-{TRANSFER}")
    assert found["check_value"] == check_value(keys[name.partition(".")[0]]).hex()
    gone = source.deployment.run("device-key", "show", name, "--config", str(source.deployment.config))
    assert "device-key/unknown" in gone.stdout + gone.stderr
    for end, rows in ((source, 0), (target, len(keys))):
        (record,) = (orjson.loads(one.document) for one in end.office.calls.records("device-store-record"))
        assert record["keys"] == rows


class Works(Protocol):
    """What else is tried with keys that move, at the moments at which it should work, or should not."""

    keys: Sequence[str]

    def at_source(self) -> None:
        """Before anything begins."""

    def gone(self) -> None:
        """Exported: the source may not, and the destination may not yet."""

    def at_destination(self) -> None:
        """Imported."""


def approved(
    source: End, target: End, folder: Path, keys: Sequence[str], kill: Sequence[str] = ()
) -> dict[str, JsonValue]:
    """Offered, planned, proposed and approved: what an export of these keys is proposed with."""
    papers = source.papers
    # 1 offer
    offered = {"module": "softhsm", "complies": "audited in March", "affiliation": "none"}
    until = int((datetime.now(UTC) + timedelta(days=9)).timestamp())
    service = service_key(target)
    done = target.moved("offer", kill=kill, service_key=service, valid_until=until, **offered)
    assert (done["statement"], done["service_key_sha256"]) == ("transfer-offer", service)
    # 2 proposal
    (folder / "view.txt").write_text("no objection")
    (folder / "terms.toml").write_text(
        f'keys = {json.dumps(list(keys))}\nreason = "another provider"\n'
        'committee_view = "view.txt"\n'
        'disposition = "destroy"\ndisposition_days = 7\n'
    )
    planned = source.command("plan", str(folder / "terms.toml"))
    assert (planned["oaep_hash"], planned["trust"]) == ("sha-1", "enforced")
    source.office.carry(
        "transfer.propose",
        source.transfer,
        offer=source.file("offer.dsse"),
        destination_key=source.file("destination.key"),
        plan=source.file("plan.json"),
    )
    # 3 approval, on the SMKI PMA's own machine: no configuration, no service
    now = datetime.now(UTC)
    (folder / "conditions.toml").write_text(
        f"not_before = {(now - timedelta(hours=1)).isoformat()}\n"
        f"not_after = {(now + timedelta(days=1)).isoformat()}\n"
        "source_people = 3\ndestination_people = 3\nassurance_level = 0\nattempts = 2\nwitnesses = 1\n"
        'attested = ["the courier is accompanied"]\n'
    )
    off_line = ("--folder", str(papers))
    source.deployment.json("transfer", "approval", str(folder / "conditions.toml"), *off_line)
    for number, name in enumerate(PMA, 1):
        key_file = str(folder / f"{name}.pem")
        done = source.deployment.json("transfer", "sign-approval", "--key", key_file, "--yes", *off_line)
        assert done["signatures"] == number
    source.command("scope")
    scope = source.document("scope.json")
    source.office.carry(
        "transfer.approve", source.transfer, approval=source.file("approval.dsse"), scope=scope
    )
    attended = {"witnesses": ["Wil"], "attested": {"the courier is accompanied": "Nia"}}
    return {"approval": source.file("approval.dsse"), "scope": scope, "attended": attended}


def moves(source: End, target: End, folder: Path, moments: Sequence[str], works: Works | None = None) -> None:
    more = works.keys if works is not None else ()
    if works is not None:
        works.at_source()
    worst = [one for one in moments if one == "module"]
    papers = source.papers
    # 1 to 3 offer, proposal, approval
    export = approved(source, target, folder, (KEY, "epoch-1", "binding-1", *more), worst)
    scope, attended = export["scope"], export["attended"]
    # 4 export: signs until it is exported, never after
    sign(source, 1)
    so_pin = ("--so-pin-file", str(source.deployment.token.folder / "so-pin"))
    # over the wire it is refused: the service has no part in it
    proposal = source.office.proposed("transfer.export", TRANSFER, ("ben", "cat", "dan"), **export)
    with pytest.raises(WrongState):
        source.office.calls.execute(proposal)
    assert source.state() == "active"
    rows_out = ("rows-out",) if moments else ()
    source.moved("export", *so_pin, kill=(*moments, *rows_out), **export)
    assert source.state() == "in-transfer"
    with pytest.raises(CallError):
        sign(source, 2)
    if works is not None:
        works.gone()
    # the package has the log's proof that the keys are in transfer
    source_log = read_public_key(source.deployment.folder / "log.pub.pem")
    exported = logged.verify((papers / "source-log.json").read_bytes(), source_log)
    assert exported.transfer.state is TransferState.EXPORTED
    # 5 import
    target.command("scope")
    package = {"package": target.file("package.dsse"), "source_key": target.file("source.key")}
    scoped = target.document("scope.json")
    # what is recorded is said once every device key is there
    rows_in = (*moments[:-1], "rows-in", *moments[-1:]) if moments else ()
    target.moved("import", kill=rows_in, scope=scoped, attended=attended, **package)
    assert target.state() == "active"
    # what the source signed once, other bytes of it are not signed here
    other = pre_command_request(1, key_id=KEY)
    other.gbcs_pre_command = precommands.ecs44(counter=1)
    other.service_reference_variant = "7.3"
    with target.deployment.client() as client, pytest.raises(Conflict) as refusal:
        client.sign(other)
    assert refusal.value.rule.startswith("once/")
    sign(target, 2)
    if works is not None:
        works.at_destination()
    # the running service says the same of it: over gRPC, into another folder
    code, fetched = governed.on_command_line(
        target.deployment, "transfer", "fetch", TRANSFER, "--folder", str(folder / "fetched")
    )
    assert (code, fetched["statement"], fetched["device_keys"]) == (
        0,
        "transfer-receipt",
        "receive done: 70 of 70",
    )
    payloads = [
        orjson.loads(dsse.parse((place / "receipt.dsse").read_bytes()).payload)
        for place in (papers, folder / "fetched")
    ]
    assert payloads[0] == payloads[1]
    log_key = read_public_key(target.deployment.folder / "log.pub.pem")
    verified = logged.verify((folder / "fetched" / "destination-log.json").read_bytes(), log_key)
    assert verified.transfer.state is TransferState.IMPORTED
    code, listed = governed.on_command_line(source.deployment, "transfer", "list")
    assert (code, [one["state"] for one in listed]) == (0, ["exported"])
    code, unsaid = governed.on_command_line(
        source.deployment, "transfer", "fetch", TRANSFER, "--folder", str(folder / "unsaid")
    )
    assert (code, unsaid["not_said"]) == (0, "transfer/on-the-machine")
    # 6 receipt and disposition
    source.office.carry(
        "transfer.receipt",
        TRANSFER,
        receipt=source.file("receipt.dsse"),
        destination_key=source.file("destination.key"),
        package=source.file("package.digest"),
    )
    rows_gone = ("rows-gone",) if moments else ()
    source.moved("dispose", kill=(*worst, *rows_gone), scope=scope)
    assert source.state() == "destroyed"
    # 7 the dossier, off-line
    for end in (source, target):
        end.command("evidence", TRANSFER)
    logs = [str(end.deployment.folder / "log.pub.pem") for end in (source, target)]
    verify = (
        *("transfer", "verify", "--folder", str(papers), "--pma", str(folder / "pma")),
        *("--source-log", logs[0], "--destination-log", logs[1]),
    )
    page = source.deployment.json(*verify)["page"]
    for said in (
        KEY,
        "pat, pia",
        "imported; each key proved itself",
        "copies were disposed of: destroy.",
        "source's log",
        "destination's log",
        "70 device keys",
        f"{7 + 2 * len(more)} of {7 + 2 * len(more)} blobs are at hand",
    ):
        assert said in page
    (papers / "receipt.dsse").write_bytes((papers / "offer.dsse").read_bytes())
    assert source.deployment.run(*verify).returncode == VERIFICATION_FAILED


def comes_back(source: End, target: End, folder: Path) -> None:
    """Exported and declined: the package opens no more, killed or not, and the source's key comes back, suspended."""
    for end in (source, target):
        end.transfer, end.papers = "move-2", folder / "papers-2"
    source.office.key(SECOND, "command-signing", role=2, eui64=str(precommands.SUPPLIER))
    source.office.carry("key.activate", SECOND)
    export = approved(source, target, folder, (SECOND,))
    so_pin = ("--so-pin-file", str(source.deployment.token.folder / "so-pin"))
    source.moved("export", *so_pin, **export)
    with pytest.raises(WrongState):
        sign(source, 90, SECOND)
    done = target.moved("decline", kill=("module", "recorded"))
    assert done["statement"] == "transfer-not-imported"
    # what was declined is not imported
    target.command("scope")
    package = {"package": target.file("package.dsse"), "source_key": target.file("source.key")}
    scope, attended = target.document("scope.json"), export["attended"]
    with pytest.raises(WrongState) as refused:
        target.moved("import", scope=scope, attended=attended, **package)
    assert refused.value.rule == "transfer/step"
    # the source takes the destination's word, signed, and nobody else's
    back = {"not_imported": source.file("not-imported.dsse"), "scope": export["scope"]}
    with pytest.raises(CallError) as other:
        source.office.carry("transfer.roll-back", "move-2", destination_key=source.file("source.key"), **back)
    assert other.value.rule == "transfer/other-signer"
    source.office.carry(
        "transfer.roll-back", "move-2", destination_key=source.file("destination.key"), **back
    )
    assert (source.state(SECOND), target.state(SECOND)) == ("suspended", "")
    source.office.carry("key.resume", SECOND)
    sign(source, 90, SECOND)
    off_line = ("transfer", "verify", "--folder", str(source.papers), "--pma", str(folder / "pma"))
    assert "imported nothing" in source.deployment.json(*off_line)["page"]


def service_key(end: End) -> str:
    """SHA-256 of the deployment's service-signing public key, from its record."""
    import hashlib

    from cryptosvc.core.content.checkpoint_note import public_key_der

    for one in end.office.calls.records("key-record"):
        document = orjson.loads(one.document)
        if document["key_class"] == "service-signing":
            return hashlib.sha256(public_key_der(bytes.fromhex(document["public_point"]))).hexdigest()
    raise AssertionError
