"""A deployment that began with a signed genesis: its custodians, and acts carried out over mutual TLS."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cryptosvc.client.calls import Client
from cryptosvc.client.governance import Governance
from cryptosvc.core import statement as statements
from cryptosvc.core.acts.table import act as act_named
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.statement import Statement
from cryptosvc.pb.v1 import governance_pb2 as pb
from tests.deployment import Deployment, prepared
from tests.governance import Person, person

NAMES = ("ada", "ben", "cat", "dan")
AUDITOR = "dan"
"""Who signs reviews of the log off as well."""
_IDS = {
    "key": "key_id",
    "caller": "caller_id",
    "custodian": "custodian_id",
    "module": "module",
    "transfer": "transfer_id",
    "device-source": "source_id",
    "device-work": "work_id",
}


def founded(folder: Path, **settings: object) -> tuple[Deployment, dict[str, Person]]:
    """Begin with a genesis that four custodians signed; not started."""
    deployment, people = drawn_up(folder, **settings)
    signed = folder / f"genesis.{len(NAMES)}"
    answer = deployment.json("genesis", str(signed), "--config", str(deployment.config))
    (folder / "log.pub.pem").write_text(answer["log_public_key"])
    assert answer["custodians"] == list(NAMES)
    return deployment, people


def drawn_up(
    folder: Path, *, signed: bool = True, **settings: object
) -> tuple[Deployment, dict[str, Person]]:
    """Draw up a genesis, `genesis.0`, and have four custodians sign it one after another, `genesis.1` to `genesis.4`."""
    deployment = prepared(folder, **settings)
    deployment.identity("office")
    people = {name: person(name, system=SystemName("fault")) for name in NAMES}
    tables = ['[log_keys]\nclassification = "secret"\nresponsible = "Ada"\n']
    for name, one in people.items():
        private = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(private)
        public = one.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
        tables.append(_custodian(name))
    tables += [_caller("office", "govern = true"), _caller("auditor", "govern = false\nauditor = true")]
    (folder / "genesis.toml").write_text("\n".join(tables))
    if not signed:
        return deployment, people
    before = folder / "genesis.0"
    config = ("--config", str(deployment.config))
    deployment.json("genesis-draft", str(folder / "genesis.toml"), *config, "-o", str(before))
    for number, name in enumerate(NAMES, 1):
        after = folder / f"genesis.{number}"
        key = str(folder / f"{name}.pem")
        deployment.json("genesis-sign", str(before), "--key", key, "-o", str(after), "--yes")
        before = after
    return deployment, people


@dataclass
class Office:
    """Hands in for the custodians."""

    client: Client
    people: dict[str, Person]

    @property
    def calls(self) -> Governance:
        return Governance(self.client)

    def record(self, kind: str, name: str) -> dict | None:
        """A record as the service has it."""
        if kind not in _IDS:  # an act on the log, which has no record
            return None
        for one in self.calls.records(f"{kind}-record"):
            document = orjson.loads(one.document)
            if document[_IDS[kind]] == name:
                return document
        return None

    def statement(self, act: str, subject: str, **parameters: JsonValue) -> Statement:
        """A statement by Ada on the subject as it is now."""
        setting = self.calls.setting()
        found = self.record(act.partition(".")[0], subject)
        now = UnixSeconds(int(time.time()))
        return Statement(
            act=act,
            subject=subject,
            subject_version=0 if found is None else found["version"],
            parameters=parameters,
            clause=act_named(act).clause,
            reason="as the test says",
            system=SystemName(setting.system),
            environment=Environment(setting.environment),
            origin=setting.origin,
            policy_digest=setting.policy_digest,
            proposed_by="ada",
            proposed_at=now,
            expires_at=UnixSeconds(now + 3600),
            nonce=secrets.token_hex(16),
        )

    def proposed(self, act: str, subject: str, approvers: Sequence[str], **parameters: JsonValue) -> str:
        """Propose and approve; the proposal's id."""
        statement = self.statement(act, subject, **parameters)
        octets = statements.emit(statement)
        found = self.calls.propose(octets, self.people["ada"].endorse(statement))
        for name in approvers:
            self.calls.approve(found.proposal_id, self.people[name].endorse(statement))
        return found.proposal_id

    def carry(
        self,
        act: str,
        subject: str,
        approvers: Sequence[str] = ("ben", "cat", "dan"),
        **parameters: JsonValue,
    ) -> pb.ExecuteResponse:
        """Propose, approve and carry out."""
        return self.calls.execute(self.proposed(act, subject, approvers, **parameters))

    def key(self, key_id: str, key_class: str, **more: JsonValue) -> None:
        """Order and generate a key."""
        asked = {"class": key_class, "module": "softhsm", "classification": "secret", "responsible": "Ada"}
        self.carry("key.order", key_id, **asked, **more)
        self.carry("key.generate", key_id)


def on_command_line(deployment: Deployment, *arguments: str) -> tuple[int, dict | list]:
    """Run a command as the office, over mutual TLS; its exit code and its JSON."""
    tls = deployment.folder / "tls"
    where = ("--target", f"127.0.0.1:{deployment.port}", "--ca", str(tls / "ca.pem"))
    key = "--tls-key" if arguments[0] == "propose" else "--key"
    who = ("--cert", str(tls / "office.pem"), key, str(tls / "office.key"))
    done = deployment.run(*arguments, *where, *who, "--json")
    return done.returncode, json.loads(done.stdout)


def _custodian(name: str) -> str:
    today = datetime.now(UTC).date()
    roles = '"key-custodian", "auditor"' if name == AUDITOR else '"key-custodian"'
    return f"""
[[custodians]]
id = "{name}"
person = "person-{name}"
name = "{name.title()}"
key = "{name}.pub"
roles = [{roles}]
screening_standard = "BS 7858:2019"
screened_on = {today.replace(year=today.year - 1, day=1)}
clearance = "SC"
clearance_reviewed_on = {today.replace(day=1)}
security_check_on = {today.replace(year=today.year - 1, day=1)}
privileged_since = {today.replace(day=1)}
"""


def _caller(name: str, more: str) -> str:
    return f'[[callers]]\nid = "{name}"\ncertificate = "tls/{name}.pem"\n{more}\n'
