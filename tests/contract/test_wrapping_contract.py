"""What modules really do with trusted wrapping keys: the table of docs/adr/0012-transfer-wrapping.md, measured again."""

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cryptosvc.adapters.hsm import exporting, wrapping
from cryptosvc.adapters.hsm.constants import Cka, Ckm, Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.core.errors import Conflict, CryptosvcError, Forbidden, WrongState
from cryptosvc.core.handover.cargo import Arrival, Wrapped
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, KeyId, ModuleName, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState, Origin
from cryptosvc.core.transfer.mechanism import OaepHash, Trust, best
from cryptosvc.core.transfer.proof import require_proven
from tests import kryoptic
from tests.hsm_fixtures import REPOSITORY, TestToken, make_nss, make_softhsm

pytestmark = pytest.mark.xdist_group("wrapping")

TRANSPORT = ("transport-t1", b"\x71")
KEYS = (("command-a", "command-signing"), ("broker-a", "key-agreement"))


@dataclass(frozen=True)
class Vendor:
    """One row of the table."""

    make: Callable[[Path], TestToken]
    hashes: tuple[OaepHash, ...]
    padding: Ckm
    trust: Trust
    trusts: Trust
    """What an export is worth there, the Security Officer present where there is one."""
    reads_otherwise: frozenset[str] = frozenset()


def _kryoptic(folder: Path) -> TestToken:
    return kryoptic.make_kryoptic(folder)


BOTH = (OaepHash.SHA_256, OaepHash.SHA_1)
VENDORS = {
    "SoftHSM 2.6.1": Vendor(
        make_softhsm, (OaepHash.SHA_1,), Ckm.AES_KEY_WRAP_PAD, Trust.ENFORCED, Trust.ENFORCED
    ),
    "NSS softokn 3.87": Vendor(
        make_nss,
        BOTH,
        Ckm.AES_KEY_WRAP_KWP,
        Trust.NONE,
        Trust.NONE,
        frozenset({"CKA_DERIVE", "CKA_SIGN_RECOVER", "CKA_SIGN"}),
    ),
    "kryoptic 1.5": Vendor(_kryoptic, BOTH, Ckm.AES_KEY_WRAP_KWP, Trust.KEPT, Trust.KEPT),
}


@contextmanager
def token_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestToken]:
    if name.startswith("kryoptic") and shutil.which("cargo") is None:
        pytest.skip("no cargo to build kryoptic with")
    folder.mkdir(exist_ok=True)
    made = VENDORS[name].make(folder)
    monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
    yield made


def record_of(name: str, key_class: str, point: bytes, *, transferable: bool = True) -> KeyRecord:
    return KeyRecord(
        key_id=KeyId(name),
        version=1,
        key_class=key_class,
        state=KeyState.ACTIVE,
        system=SystemName("system"),
        environment=Environment.TEST,
        module=ModuleName("module"),
        label=name,
        object_id=name.encode()[:8],
        public_point=point,
        certificate=b"",
        eui64=None,
        role=None,
        origin=Origin.GENERATED,
        transferable=transferable,
        signs_for_eligible_user=False,
    )


def generate_keys(token: TestToken) -> list[KeyRecord]:
    with TransferToken(token.config, token.locks) as opened:
        return [
            record_of(name, key_class, opened.generate(name, name.encode()[:8], transferable(key_class)))
            for name, key_class in KEYS
        ]


def transferable(key_class: str):
    return replace(ceiling(key_class).template, transferable=True)


def so_pin_of(token: TestToken) -> Path | None:
    found = token.folder / "so-pin"
    return found if found.exists() else None


def exported(token: TestToken, keys: list[KeyRecord], transport: bytes, oaep_hash: OaepHash) -> Wrapped:
    """As the service does it: in a process of its own."""
    return exporting.export(token.config, token.locks, keys, transport, oaep_hash, so_pin_of(token))


@pytest.mark.parametrize("name", VENDORS)
def test_what_a_module_holds_keys_to_is_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    vendor = VENDORS[name]
    with token_of(name, tmp_path, monkeypatch) as made, TransferToken(made.config, made.locks) as token:
        assert token.hashes() == vendor.hashes
        assert wrapping.padding_mechanism(token.mechanisms) is vendor.padding
        assert token.trust() is vendor.trust
        assert Ckm.RSA_AES_KEY_WRAP not in token.mechanisms
        assert token.objects() == []  # measuring leaves nothing


def test_the_table_of_the_adr_is_this_one() -> None:
    page = (REPOSITORY / "docs" / "adr" / "0012-transfer-wrapping.md").read_text()
    for name, vendor in VENDORS.items():
        (row,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells == [
            ", ".join(one.value for one in vendor.hashes),
            f"CKM_{vendor.padding.name}",
            "no",
            vendor.trust.value,
            vendor.trusts.value,
            ", ".join(sorted(vendor.reads_otherwise)) or "nothing",
        ]


PAIRS = [
    ("SoftHSM 2.6.1", "SoftHSM 2.6.1"),
    ("SoftHSM 2.6.1", "NSS softokn 3.87"),
    ("kryoptic 1.5", "NSS softokn 3.87"),
    ("NSS softokn 3.87", "SoftHSM 2.6.1"),
]


@pytest.mark.parametrize(("source", "destination"), PAIRS)
def test_keys_cross_and_prove_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, destination: str
) -> None:
    with (
        token_of(destination, tmp_path / "to", monkeypatch) as to,
        TransferToken(to.config, to.locks) as token,
    ):
        transport, theirs = token.make_transport(*TRANSPORT), token.hashes()
        with pytest.raises(Conflict):
            token.make_transport(*TRANSPORT)
    with token_of(source, tmp_path / "from", monkeypatch) as made:
        if source.startswith("kryoptic"):
            (made.folder / "so-pin").unlink(missing_ok=True)
        keys = generate_keys(made)
        sent = exported(made, keys, transport, best(VENDORS[source].hashes, theirs))
        assert sent.trust is VENDORS[source].trusts
        with TransferToken(made.config, made.locks) as token:
            left = {one.label for one in token.objects()}
        assert left == {name for name, _ in KEYS}  # neither carrier nor transport key
    monkeypatch.setenv("SOFTHSM2_CONF", to.conf)
    arrivals = [Arrival(replace(key, transferable=False), sent.blobs[key.key_id]) for key in keys]
    oaep_hash = best(VENDORS[source].hashes, theirs)
    with TransferToken(to.config, to.locks) as token:
        once = token.receive(TRANSPORT, sent.carrier, oaep_hash, arrivals, "t1")
        for key, one in zip(keys, once, strict=True):
            require_proven(one.proof, "t1", key.key_class, key.public_point)
        otherwise = {each.split()[0] for one in once for each in one.differences}
        assert otherwise == VENDORS[destination].reads_otherwise
        # interrupted and called again, with the transport key there and with it gone: nothing is unwrapped twice
        assert len(token.receive(TRANSPORT, sent.carrier, oaep_hash, arrivals, "t1")) == len(keys)
        assert token.destroy(*TRANSPORT) == 2
        assert len(token.receive(TRANSPORT, sent.carrier, oaep_hash, arrivals, "t1")) == len(keys)
        # a package opens once
        for key in keys:
            token.destroy(key.label, key.object_id)
        with pytest.raises(WrongState) as refused:
            token.receive(TRANSPORT, sent.carrier, oaep_hash, arrivals, "t1")
        assert refused.value.rule == "transfer/opened-already"


def test_a_module_that_enforces_trust_wraps_nothing_without_its_security_officer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_of("SoftHSM 2.6.1", tmp_path, monkeypatch) as made:
        keys = generate_keys(made)
        with TransferToken(made.config, made.locks) as token:
            transport = token.make_transport(*TRANSPORT)
        with pytest.raises(Forbidden) as refused:
            exporting.export(made.config, made.locks, keys, transport, OaepHash.SHA_1, None)
        assert refused.value.rule == "transfer/security-officer"
        # the Security Officer's PIN is wrong: refused, and the error crosses from the other process whole
        (tmp_path / "so-pin").write_text("not the PIN\n")
        with pytest.raises(CryptosvcError) as wrong:
            exported(made, keys, transport, OaepHash.SHA_1)
        assert wrong.value.rule == "hsm/pin-refused"


def test_a_blob_for_another_transport_key_or_damaged_unwraps_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_of("SoftHSM 2.6.1", tmp_path, monkeypatch) as made:
        keys = generate_keys(made)
        with TransferToken(made.config, made.locks) as token:
            mine, other = token.make_transport(*TRANSPORT), token.make_transport("transport-t2", b"\x72")
        sent = exported(made, keys, mine, OaepHash.SHA_1)
        elsewhere = exported(made, keys, other, OaepHash.SHA_1)
        with TransferToken(made.config, made.locks) as token:
            for key in keys:
                token.destroy(key.label, key.object_id)
            damaged = bytearray(sent.blobs[keys[0].key_id])
            damaged[11] ^= 1
            for carrier, blob in itertools.chain(
                [(elsewhere.carrier, sent.blobs[keys[0].key_id])],
                [(sent.carrier, bytes(damaged)), (sent.carrier, elsewhere.blobs[keys[0].key_id])],
            ):
                with pytest.raises(CryptosvcError):
                    token.receive(TRANSPORT, carrier, OaepHash.SHA_1, [Arrival(keys[0], blob)], "t1")
            # one key's blob under another key's name: the point of the package is not the one of the private half
            swapped = Arrival(keys[0], sent.blobs[keys[1].key_id])
            (arrived,) = token.receive(TRANSPORT, sent.carrier, OaepHash.SHA_1, [swapped], "t1")
            with pytest.raises(CryptosvcError) as refused:
                require_proven(arrived.proof, "t1", keys[0].key_class, keys[0].public_point)
            assert refused.value.rule == "transfer/not-proven"


def test_a_key_that_is_not_transferable_leaves_under_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_of("SoftHSM 2.6.1", tmp_path, monkeypatch) as made:
        with TransferToken(made.config, made.locks) as token:
            point = token.generate("audit", b"audit", ceiling("audit-signing").template)
            transport = token.make_transport(*TRANSPORT)
        key = record_of("audit", "audit-signing", point, transferable=False)
        with pytest.raises(Forbidden) as refused:
            exported(made, [key], transport, OaepHash.SHA_1)
        assert refused.value.rule == "hsm/call-refused"
        assert "KEY_UNEXTRACTABLE" in refused.value.message


def test_users_mark_nothing_trusted_where_the_module_enforces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        token_of("SoftHSM 2.6.1", tmp_path, monkeypatch) as made,
        TransferToken(made.config, made.locks) as token,
    ):
        functions, session = token._library.functions, token._session
        key = functions.generate(
            session, Ckm.AES_KEY_GEN, wrapping.carrier_template(trusted=False, private=True)
        )
        assert functions.attribute(session, key, Cka.TRUSTED) in (b"\x00", None)
        with pytest.raises(CryptokiError) as refused:
            functions.generate(
                session, Ckm.AES_KEY_GEN, wrapping.carrier_template(trusted=True, private=True)
            )
        assert refused.value.code == Ckr.ATTRIBUTE_READ_ONLY
