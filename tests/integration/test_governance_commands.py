"""The commands of dual control and of the registers, against a running service over mutual TLS."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cryptosvc.cli.app import run
from cryptosvc.core.asset import module_document
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.core.names import CallerId
from cryptosvc.core.registry import Grant
from cryptosvc.wiring.actions import WiredActions
from tests import govern_stand, service_stand
from tests.govern_stand import ORDER
from tests.governance import MODULE, Room, person
from tests.service_stand import stand

NAMES = ("ada", "ben", "cat", "dan")


@dataclass
class Here:
    """A service on fakes, and a machine that runs the command against it."""

    governed: govern_stand.Stand
    folder: Path
    where: tuple[str, ...]
    said: Callable[[], str]

    async def run(self, *arguments: object) -> tuple[int, str]:
        """A command; its exit code, and what it printed."""
        words = [str(one) for one in arguments]
        tls_key = "--tls-key" if words[0] == "propose" else "--key"
        code = await asyncio.to_thread(
            run, WiredActions(), [*words, *self.where, tls_key, str(self.folder / "key")]
        )
        return code, self.said()

    async def json(self, *arguments: object) -> object:
        """The JSON of a command that succeeds."""
        code, said = await self.run(*arguments, "--json")
        assert code == 0, said
        return json.loads(said)

    async def signed(self, *arguments: object) -> None:
        """A command of a custodian's own machine; off-line."""
        code = await asyncio.to_thread(run, WiredActions(), [*map(str, arguments), "--yes", "--json"])
        assert code == 0, self.said()
        self.said()

    def key(self, name: str) -> Path:
        """A custodian's key file."""
        return self.folder / f"{name}.pem"


@asynccontextmanager
async def service(folder: Path, said: Callable[[], str]) -> AsyncIterator[Here]:
    now = UnixSeconds(int(time.time()))
    room = Room(people={name: person(name, at=now) for name in NAMES}, now=now)
    governed = govern_stand.Stand(room=room)
    # it stands still, and what is signed meanwhile is signed by the machine's own clock
    governed.clock.at = (now + 60) * NANOSECONDS
    await governed.begin()
    for name, one in room.people.items():
        private = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(private)
    async with stand(governed=governed) as running:
        identity = running.authority.client("office")
        caller = service_stand.caller_record("office", identity)
        grants = (Grant(operation="govern", key_class="*"),)
        running.keys.callers[identity.sha256] = replace(caller, caller_id=CallerId("office"), grants=grants)
        for name, octets in (
            ("ca", running.authority.certificate),
            ("cert", identity.certificate),
            ("key", identity.key),
        ):
            (folder / name).write_bytes(octets)
        target = f"localhost:{running.server.port}"
        where = ("--target", target, "--ca", str(folder / "ca"), "--cert", str(folder / "cert"))
        yield Here(governed, folder, where, said)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def read() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return read


async def test_a_key_is_suspended_by_commands(tmp_path: Path, said):
    async with service(tmp_path, said) as here:
        await here.governed.active("key-1")
        out = tmp_path / "stop"
        # the proposer is found by the key, and the record by the service
        words = (
            "propose",
            "key.suspend",
            "key-1",
            "--key",
            here.key("ada"),
            "--reason",
            "lost card",
            "-o",
            out,
        )
        made = await here.json(*words)
        assert isinstance(made, dict)
        assert made["files"] == [str(out), f"{out}.dsse", f"{out}.record"]
        assert json.loads(Path(f"{out}.record").read_bytes())["state"] == "active"
        await here.signed("approve", out, "--key", here.key("ben"), "-o", tmp_path / "ben")
        handed_in = await here.json("submit", f"{out}.dsse", tmp_path / "ben")
        assert isinstance(handed_in, list)
        assert [one["approvals"] for one in handed_in] == ["0 of 1", "1 of 1"]
        name = made["proposal_id"]
        done = await here.json("execute", name)
        assert isinstance(done, dict)
        assert (done["state"], done["records"][0]["state"]) == ("done", "suspended")
        assert len(done["receipts"]) == 2
        code, printed = await here.run("proposal", "show", name, "-o", tmp_path / "again")
        assert code == 0
        assert "Suspend key key-1: it signs nothing until it is resumed." in printed
        assert (tmp_path / "again").read_bytes() == out.read_bytes()
        code, printed = await here.run("execute", name)
        assert code == 3
        assert "the proposal is done" in printed


async def test_a_proposal_is_withdrawn_by_commands(tmp_path: Path, said):
    async with service(tmp_path, said) as here:
        setting = tmp_path / "setting.json"
        code, _ = await here.run("proposal", "setting", "-o", setting)
        assert code == 0
        out = tmp_path / "order"
        words = ("propose", "key.order", "key-9", "--key", here.key("ada"), "--as", "ada", "--reason", "r")
        given = [
            word
            for one in ("class=command-signing", "module=soft", "classification=secret", "responsible=Ada")
            for word in ("--param", one)
        ]
        offline = [*map(str, words), *given, "--setting", str(setting), "-o", str(out), "--json"]
        assert await asyncio.to_thread(run, WiredActions(), offline) == 0
        name = json.loads(here.said())["proposal_id"]
        await here.json("submit", f"{out}.dsse")
        taken_back = tmp_path / "withdrawal"
        await here.signed("withdraw", name, "--key", here.key("ada"), "--reason", "typo", "-o", taken_back)
        (withdrawn,) = await here.json("submit", taken_back)  # type: ignore[misc]  # a list of one
        assert (withdrawn["state"], withdrawn["outcome"]) == ("withdrawn", {"reason": "typo"})
        listed = await here.json("proposal", "list", "--state", "withdrawn")
        assert isinstance(listed, list)
        assert [one["proposal_id"] for one in listed] == [name]
        assert await here.json("proposal", "list", "--state", "open") == []


async def test_the_registers_are_printed(tmp_path: Path, said):
    async with service(tmp_path, said) as here:
        await here.governed.active("key-1")
        await here.governed.carry("key.label", "key-1", label="a|b", responsible="Ben")
        await here.governed.carry("key.deactivate", "key-1")
        await here.governed.ordered("key-2")
        until = here.governed.room.now + 30 * DAY
        await here.governed.carry("key.activate", "key-2", until=until)
        await here.governed.carry("module.register", "soft", record=module_document(MODULE))
        code, page = await here.run("asset", "list", "--format", "markdown")
        assert code == 0
        assert page.startswith("# Asset register\n\n3 assets")
        assert "| key | key-1 | a\\|b | secret | Ben | deactivated | soft | command-signing |" in page
        assert "| module | soft | token | secret | Ada | in service | soft | — |" in page
        assert "Reviewed by:" in page
        assets = await here.json("asset", "list")
        assert isinstance(assets, list)
        assert [one["id"] for one in assets] == ["key-1", "key-2", "soft"]
        due = await here.json("key", "due")
        assert isinstance(due, list)
        assert [(one["key_id"], one["event"], one["rule"]) for one in due] == [
            ("key-2", "deactivate", "schedule/deactivation-date")
        ]
        assert await here.json("key", "due", "--days", 29) == []
        code, table = await here.run("custodian", "list")
        assert code == 0
        assert [line.split()[0] for line in table.splitlines()] == ["CUSTODIAN", *NAMES]
        code, shown = await here.run("custodian", "show", "ben")
        assert (code, "person-ben" in shown, "since=20" in shown) == (0, True, True)
        code, _ = await here.run("custodian", "show", "nobody")
        assert code == 2


async def test_the_request_of_a_key_that_derives_is_written_and_others_have_none(tmp_path: Path, said):
    async with service(tmp_path, said) as here:
        asked = ORDER | {"class": "key-agreement", "role": 4, "eui64": "90-B3-D5-1F-30-00-00-02"}
        await here.governed.carry("key.order", "broker", **asked)
        await here.governed.carry("key.generate", "broker")
        await here.governed.active("key-1")
        out = tmp_path / "broker.csr"
        done = await here.json("key", "request", "broker", "-o", out)
        assert isinstance(done, dict)
        request = x509.load_pem_x509_csr(out.read_bytes())
        assert request.is_signature_valid
        assert done["subject"] == request.subject.rfc4514_string()
        assert done["written"] == str(out)
        key = here.governed.key("broker")
        point = request.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert point == key.public_point
        code, printed = await here.run("key", "request", "key-1", "-o", tmp_path / "none")
        assert (code, "key/no-request" in printed) == (3, True)
        assert not (tmp_path / "none").exists()
        code, _ = await here.run("key", "request", "nobody", "-o", tmp_path / "none")
        assert code == 2


CUSTODIAN = """
id = "fay"
person = "employee 12"
name = "Fay"
key = "fay.pub"
roles = ["security-officer"]
screening_standard = "BS 7858:2019"
screened_on = 2026-01-15
clearance = "SC"
clearance_reviewed_on = 2026-11-01
security_check_on = 2026-01-20
privileged_since = 2026-02-01
"""
CALLER = """
id = "head-end"
certificate = "cert"
user_roles = ["IS"]
grants = [{ key_class = "command-signing" }, { operation = "govern" }]
"""


async def test_records_are_drafted_from_files_that_people_write(tmp_path: Path, said):
    fay = person("fay")
    (tmp_path / "fay.pub").write_bytes(
        fay.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    async with service(tmp_path, said) as here:
        for kind, text, more in (("custodian", CUSTODIAN, ()), ("caller", CALLER, ("--version", "1"))):
            (tmp_path / f"{kind}.toml").write_text(text)
            out = str(tmp_path / f"{kind}.json")
            words = [kind, "draft", str(tmp_path / f"{kind}.toml"), "--system", "dcc-test", "-o", out, *more]
            assert await asyncio.to_thread(run, WiredActions(), [*words, "--json"]) == 0, here.said()
        custodian = json.loads((tmp_path / "custodian.json").read_bytes())
        assert (custodian["key"], custodian["version"]) == (fay.record.key.hex(), 1)
        caller = json.loads((tmp_path / "caller.json").read_bytes())
        assert caller["grants"][1] == {"operation": "govern", "key_class": "*", "key_ids": []}
        await here.governed.carry("caller.register", "head-end", record=caller)
        await here.governed.carry("custodian.register", "fay", record=custodian)
        here.said()
        listed = await here.json("caller", "list")
        assert isinstance(listed, list)
        assert [one["caller_id"] for one in listed] == ["head-end"]
        wrong = tmp_path / "wrong.toml"
        wrong.write_text(CALLER.replace('key_class = "command-signing"', 'operation = "sign"'))
        words = ["caller", "draft", str(wrong), "--system", "dcc-test", "-o", str(tmp_path / "w")]
        assert await asyncio.to_thread(run, WiredActions(), words) == 2
        assert "a grant names a key class" in here.said()
