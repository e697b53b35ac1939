"""`cryptosvc device-key …` on a whole deployment: a file in, keys rotated, an epoch left, a key destroyed, the log verified."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cryptosvc.core.device_file import line_octets
from cryptosvc.core.device_records import DeviceSourceRecord, DeviceWorkRecord, SourceState, WorkKind
from cryptosvc.core.errors import Malformed, WrongState
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyState, Record
from cryptosvc.wiring import device_keys
from cryptosvc.wiring.reconciling import opened_floor
from tests.deployment import CALLERS, KEYS, Deployment, make_deployment
from tests.device_files import Source
from tests.device_rows import row
from tests.device_sealing import Storage, arrived
from tests.device_stand import import_work, work_on

STORAGE = "".join(
    f'[[keys]]\nid = "{name}"\nclass = "{key_class}"\n'
    for name, key_class in (
        ("epoch-1", "storage-wrapping"),
        ("epoch-2", "storage-wrapping"),
        ("binding-1", "storage-binding"),
        ("transport-1", "device-transport"),
    )
)
KEYS_OF_FILE = 40
NAME = f"{row(3).device}.encryption"


def silent(_what: str, _done: int, _total: int) -> None:
    """A progress bar that nobody sees."""


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    made = make_deployment(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", made.token.conf)
    made.init(KEYS + STORAGE + CALLERS)
    return made


def registered(deployment: Deployment, records: Sequence[Record]) -> None:
    """Enter records as a quorum would have."""

    async def change() -> None:
        async with opened_floor(deployment.config, "test") as floor:
            await floor.store.registry.change(records)

    asyncio.run(change())


def key_moved(deployment: Deployment, key_id: str, state: KeyState) -> None:
    async def change() -> None:
        async with opened_floor(deployment.config, "test") as floor:
            found = (await floor.store.registry.keys({KeyId(key_id)})).keys[KeyId(key_id)]
            await floor.store.registry.change([replace(found, version=found.version + 1, state=state)])

    asyncio.run(change())


def system_of(deployment: Deployment) -> str:
    async def read() -> str:
        async with opened_floor(deployment.config, "test") as floor:
            return floor.settings.deployment.system

    return asyncio.run(read())


def a_work(system: str, kind: WorkKind, subject: str, name: str) -> DeviceWorkRecord:
    return replace(work_on(kind, subject, name), system=system)


@pytest.mark.xdist_group("device-key-commands")
def test_device_keys_live_from_a_file_to_their_destruction(deployment: Deployment, tmp_path: Path) -> None:
    system, config = system_of(deployment), deployment.config
    key_moved(deployment, "epoch-2", KeyState.PRE_ACTIVATION)
    # 1 what the source is given, and what it sends
    pem = tmp_path / "transport.pem"
    said = deployment.json("device-key", "transport", "--config", str(config), "transport-1", str(pem))
    assert said["written_to"] == str(pem)
    public = load_pem_public_key(pem.read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    with pytest.raises(Malformed):
        device_keys.transport(config, "epoch-1", pem)
    source = Source()
    file_key = secrets.token_bytes(32)
    lines = [arrived(file_key, number) for number in range(KEYS_OF_FILE)]
    path = tmp_path / "keys"
    bad = line_octets(lines[9]).replace(b'"encryption"', b'"no-such-kind"')
    storage = Storage(*(None,) * 4, public)  # type: ignore[arg-type]  # the public half is all a source has
    digest = source.write(path, storage, (), lines=lines, file_key=file_key, bad={9: bad}, system=system)
    sender = DeviceSourceRecord(
        source_id="maker", version=1, state=SourceState.REGISTERED, system=system, key=source.key
    )
    registered(deployment, [sender, replace(import_work(digest, KEYS_OF_FILE), system=system)])
    # 2 the import
    unknown = deployment.run("device-key", "show", "--config", str(config), NAME)
    assert unknown.returncode != 0
    assert "there is no device key" in unknown.stderr
    command = ("device-key", "import", "--config", str(config), "import-1", str(path), "--json")
    stopping = deployment.run(*command, "--on-bad-line", "stop")
    assert stopping.returncode != 0
    assert "approved with report" in stopping.stdout + stopping.stderr
    torn = tmp_path / "torn"
    torn.write_bytes(path.read_bytes()[:-60])
    truncated = deployment.run(*command[:5], str(torn), *command[6:])
    assert orjson.loads(truncated.stdout)["error"]["rule"] == "device-file/truncated"
    imported = deployment.run(*command, "--processes", "2")
    assert imported.returncode == 1  # a line was bad
    done = orjson.loads(imported.stdout)
    assert (done["state"], done["accepted"], done["refused"]) == ("done", KEYS_OF_FILE - 1, "1")
    assert [(line["line"], line["rule"]) for line in done["bad_lines"]] == [(11, "device-file/kind")]
    # 3 one key rotates
    registered(deployment, [a_work(system, WorkKind.ROTATE, NAME, "rotate-1")])
    device_keys.rotate(config, "rotate-1", confirm=False)
    device_keys.rotate(config, "rotate-1", confirm=True)
    shown = device_keys.show(config, NAME)
    assert [(one["version"], one["state"]) for one in shown["versions"]] == [(1, "retired"), (2, "current")]
    # 4 the epoch is left
    registered(deployment, [a_work(system, WorkKind.RE_WRAP, "epoch-1", "re-wrap-1")])
    with pytest.raises(WrongState):
        device_keys.re_wrap(config, "re-wrap-1", 1, silent)
    key_moved(deployment, "epoch-1", KeyState.DEACTIVATED)
    key_moved(deployment, "epoch-2", KeyState.ACTIVE)
    assert device_keys.re_wrap(config, "re-wrap-1", 1, silent)["accepted"] == KEYS_OF_FILE
    assert {one["epoch"] for one in device_keys.show(config, NAME)["versions"]} == {"epoch-2"}
    # 5 one key is destroyed
    registered(deployment, [a_work(system, WorkKind.DESTROY, NAME, "destroy-1")])
    assert device_keys.destroy(config, "destroy-1")["epochs"] == "epoch-1,epoch-2"
    with pytest.raises(Malformed):
        device_keys.show(config, NAME)
    # 6 the log derives every step again
    log = deployment.verified_log()
    refused = [(one.fields["operation"], one.fields["rule"]) for one in log.of_kind("refusal")]
    assert refused[:4] == [
        ("device-key.transport", "device-file/transport"),
        ("device-key.show", "device-key/unknown"),
        ("device-key.import", "device-work/on-bad-line"),
        ("device-key.import", "device-file/truncated"),
    ]
    works = [entry for entry in log.of_kind("device-work-record") if "device-work" in entry.fields["because"]]
    assert {entry.fields["because"]["device-work"] for entry in works} == {
        "import-1",
        "rotate-1",
        "re-wrap-1",
        "destroy-1",
    }
    assert hashlib.sha256(path.read_bytes().split(b"\n", 1)[0]).hexdigest() == digest
