"""A SMETS1 Service Provider's shift over gRPC: keys imported from a file, requests protected, answers read, a key changed."""

import asyncio
import base64
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cryptosvc.client import messages
from cryptosvc.client.errors import CallError
from cryptosvc.client.messages import request
from cryptosvc.core.device_records import DeviceSourceRecord, SourceState, WorkKind
from cryptosvc.core.names import SystemName
from cryptosvc.wiring import device_keys
from cryptosvc.wiring.reconciling import opened_floor
from tests.command_line import caller
from tests.deployment import Deployment, make_deployment
from tests.device_files import Source
from tests.device_rows import row
from tests.device_sealing import Storage, arrived
from tests.device_stand import import_work, work_on
from tests.dlms_device import protected

CLIENT, METER = bytes.fromhex("4d4d4d0000bc614e"), bytes.fromhex("4d4d4d0000000002")
GET, ANSWER = bytes.fromhex("c0010000080000010000ff0200"), bytes.fromhex("c401000009060102030405ff")
DEVICE = str(row(1).device)
KEY = f"{DEVICE}.encryption"
SYSTEM = SystemName("fault")
STORAGE = "".join(
    f'[[keys]]\nid = "{name}"\nclass = "{key_class}"\n'
    for name, key_class in (
        ("epoch-1", "storage-wrapping"),
        ("binding-1", "storage-binding"),
        ("transport-1", "device-transport"),
    )
)
CALLERS = """\
[[callers]]
id = "provider"
certificate = "tls/provider.pem"
user_roles = ["S1SP"]
grants = [
  { operation = "encrypt", key_class = "smets1-encryption" },
  { operation = "mac", key_class = "smets1-encryption" },
  { operation = "decrypt", key_class = "smets1-encryption" },
  { operation = "accompany", key_class = "smets1-authentication" },
  { operation = "accompany", key_class = "smets1-encryption" },
  { operation = "wrap", key_class = "smets1-master" },
  { operation = "encrypt", key_class = "smets1-dedicated" },
  { operation = "decrypt", key_class = "smets1-dedicated" },
]
"""

pytestmark = pytest.mark.xdist_group("smets1-e2e")


def imported(deployment: Deployment, folder: Path, keys: dict[str, bytes]) -> None:
    """Have the Device's keys imported as a quorum would have approved it."""
    pem = folder / "transport.pem"
    device_keys.transport(deployment.config, "transport-1", pem)
    public = load_pem_public_key(pem.read_bytes())
    assert isinstance(public, rsa.RSAPublicKey)
    source, file_key = Source(), secrets.token_bytes(32)
    lines = [arrived(file_key, 1, value, kind=kind) for kind, value in keys.items()]
    storage = Storage(*(None,) * 4, public)  # type: ignore[arg-type]  # the public half is all a source has
    digest = source.write(folder / "keys", storage, (), lines=lines, file_key=file_key, system=SYSTEM)
    sender = DeviceSourceRecord(
        source_id="maker", version=1, state=SourceState.REGISTERED, system=SYSTEM, key=source.key
    )
    works = (
        replace(import_work(digest, len(lines)), system=SYSTEM),
        replace(work_on(WorkKind.ROTATE, KEY, "rotate-1"), system=SYSTEM),
    )

    async def approve() -> None:
        async with opened_floor(deployment.config, "test") as floor:
            await floor.store.registry.change([sender, *works])

    asyncio.run(approve())
    device_keys.import_keys(deployment.config, "import-1", folder / "keys", "report", 1, lambda *_: None)
    device_keys.rotate(deployment.config, "rotate-1", confirm=False)


def test_a_shift_of_a_smets1_service_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = make_deployment(tmp_path, workers=1)
    monkeypatch.setenv("SOFTHSM2_CONF", deployment.token.conf)
    deployment.configure(more=f'[smets1]\nsystem_titles = ["{CLIENT.hex()}"]\n')
    deployment.identity("provider")
    deployment.init(STORAGE + CALLERS)
    ek, ak, master = (secrets.token_bytes(16) for _ in range(3))
    imported(deployment, tmp_path, {"encryption": ek, "authentication": ak, "master": master})
    role = "S1SP"
    with deployment.serving(), deployment.client("provider") as client:
        # 1 a challenge of the Device is answered, and a request goes to it: opened here as the Device does
        text = messages.plaintext(CLIENT, 1, b"P6wRJ21F")
        answer = client.apply_mac(request(KEY, dlms_challenge=text, user_role=role))
        vector = CLIENT + (1).to_bytes(4)
        tag = AESGCM(ek).encrypt(vector, b"", b"\x10" + ak + b"P6wRJ21F")[:12]
        assert answer.artefact == b"\x10" + (1).to_bytes(4) + tag
        text = messages.plaintext(CLIENT, 2, GET)
        answer = client.encrypt(request(KEY, dlms_authenticated_encryption=text, user_role=role))
        expected = protected(0x30, CLIENT, 2, GET, ek=ek, ak=ak, tag=0xC8)
        assert (answer.artefact, answer.signature) == (expected, expected[-12:])
        assert (answer.derivation, answer.clause) == ("service", "G2.44(c), (e)")
        # 2 what it answers is read
        sent = messages.protected(METER, protected(0x30, METER, 9, ANSWER, ek=ek, ak=ak))
        assert client.decrypt(request(KEY, dlms_protected=sent, user_role=role)).plaintexts == [ANSWER]
        # 3 many at once, of which one has a counter that was used
        batch = [
            request(KEY, dlms_encryption=messages.plaintext(CLIENT, counter, GET), user_role=role)
            for counter in (3, 2, 4)
        ]
        outcomes = client.encrypt_batch(batch)
        assert [isinstance(one, CallError) for one in outcomes] == [False, True, False]
        streamed = list(client.encrypt_stream(batch, frame_items=2))
        assert all(isinstance(one, CallError) for one in streamed)
        # 4 its next key goes to it
        change = messages.key_change("encryption", 2)
        answer = client.wrap_key(request(f"{DEVICE}.master", dlms_key_change=change, user_role=role))
        new = aes_key_unwrap(master, answer.artefact)
        assert (len(new), answer.derivation) == (16, "module")
        # 5 what may not be, is not
        for method, asked in (
            (client.sign, request(KEY, dlms_encryption=messages.plaintext(CLIENT, 8, GET), user_role=role)),
            (client.encrypt, request(KEY, dlms_encryption=messages.plaintext(CLIENT, 8, GET))),
            (client.encrypt, request(KEY, dlms_encryption=messages.plaintext(METER, 8, GET), user_role=role)),
            (client.decrypt, request("log-audit", dlms_protected=sent, user_role=role)),
        ):
            with pytest.raises(CallError):
                method(asked)
        explained = client.explain(
            request(KEY, dlms_encryption=messages.plaintext(CLIENT, 8, GET), user_role=role)
        )
        assert (explained.permitted, explained.content_kind) == (True, "dlms-ciphered-request")
        # 6 the same by the command line
        cryptosvc = caller(deployment, tmp_path, capsys, "provider")
        ours = ("--system-title", CLIENT.hex(), "--user-role", role)
        code, done = cryptosvc("smets1", "encrypt", KEY, GET, *ours, "--counter", "20")
        assert (code, done["derivation"]) == (0, "service")
        expected = protected(0x30, CLIENT, 20, GET, ek=ek, ak=ak, tag=0xC8)
        assert base64.b64decode(done["artefact_base64"]) == expected
        code, done = cryptosvc("smets1", "authenticate", KEY, GET, *ours, "--counter", "21")
        assert base64.b64decode(done["artefact_base64"])[-12:].hex() == done["mac"]
        challenge = ("smets1", "authenticate", KEY, b"P6wRJ21F", *ours, "--challenge")
        assert cryptosvc(*challenge, "--counter", "22")[0] == 0
        code, refused = cryptosvc(*challenge, "--counter", "22")
        assert (code, refused["error"]["reason"]) == (3, "CONFLICT")
        answer_ = protected(0x30, METER, 10, ANSWER, ek=ek, ak=ak)
        theirs = ("--system-title", METER.hex(), "--user-role", role)
        code, done = cryptosvc("smets1", "decrypt", KEY, answer_, *theirs)
        assert (code, done["plaintexts"]) == (0, [ANSWER.hex()])
        code, done = cryptosvc("smets1", "wrap", f"{DEVICE}.master", "encryption", "2", "--user-role", role)
        assert aes_key_unwrap(master, base64.b64decode(done["artefact_base64"])) == new
        # 7 an association with a key of its own
        seal = tmp_path / "association.json"
        initiate = bytes.fromhex("01000000065f1f0400007e1f04b0")
        code, done = cryptosvc("smets1", "associate", KEY, initiate, str(seal), *ours, "--counter", "30")
        apdu = base64.b64decode(done["artefact_base64"])
        stream = AESGCM(ek).encrypt(CLIENT + (30).to_bytes(4), bytes(31), None)
        plain = bytes(a ^ b for a, b in zip(apdu[7:-12], stream, strict=False))
        dedicated = plain[3:19]
        assert apdu == protected(0x30, CLIENT, 30, plain, ek=ek, ak=ak, tag=0x21)
        within = (f"{DEVICE}.dedicated", "--association", str(seal))
        code, done = cryptosvc("smets1", "encrypt", within[0], GET, *within[1:], *ours, "--counter", "1")
        expected = protected(0x30, CLIENT, 1, GET, ek=dedicated, ak=ak, tag=0xD0)
        assert base64.b64decode(done["artefact_base64"]) == expected
        answer_ = protected(0x30, METER, 1, ANSWER, ek=dedicated, ak=ak, tag=0xD4)
        code, done = cryptosvc("smets1", "decrypt", within[0], answer_, *within[1:], *theirs)
        assert (code, done["plaintexts"]) == (0, [ANSWER.hex()])
        assert cryptosvc("smets1", "encrypt", within[0], GET, *ours, "--counter", "2")[0] == 3
        assert cryptosvc("smets1", "encrypt", KEY, GET, *ours, "--counter", str(1 << 32))[0] == 3
        assert cryptosvc("smets1", "encrypt", KEY, GET, *ours, "--counter", str((1 << 32) - 1))[0] == 3
    log = deployment.verified_log()
    uses = log.uses("device-store/devices")
    assert [one.fields["outcome"] for one in uses] == ["signed"] * 14
    assert DEVICE.encode() not in b"".join(one.octets for one in log.entries)
    for secret in (ek, ak, master, new, dedicated):
        assert secret.hex().encode() not in log.octets
