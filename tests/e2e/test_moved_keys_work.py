"""Keys of every class that moves, from SoftHSM2 to NSS softokn: they work there under the same policy, and no longer here.

The Root OCA and Issuing OCA keys sign certificates, a command-signing key the reference Pre-Commands of its EUI-64, a key
agreement key makes the MACs of reference Commands, a Device's key protects requests; each at the source until it is exported, and
at the destination once it is imported. What was used up at the source is used up at the destination. A key that was not generated
transferable never becomes so, so these are new ones under certificates of our own with the EUI-64s of the reference messages:
signatures verify under them, MACs are what the Device at the other end computes, all other octets are as published. Covers
SEC G2.22F to G2.22H.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cryptosvc.client import messages
from cryptosvc.client.calls import Client
from cryptosvc.client.errors import CallError, Conflict, NotPermitted
from cryptosvc.client.keys import RemotePrivateKey
from cryptosvc.client.messages import request
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.gbcs import mac, precommand
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.custodian import CustodianRole
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import CallerId, Eui64, SystemName, UserRole
from cryptosvc.core.registry import CallerRecord, CallerState, Grant, caller_document
from cryptosvc.pb.v1 import crypto_pb2
from tests import certificates, rtds, smki
from tests.dlms_device import protected
from tests.e2e.test_apply_mac import DEVICE, device_certificate
from tests.e2e.test_governed_deployment import authorities
from tests.e2e.test_transfer_between_deployments import KEY as SUPPLIER_KEY
from tests.e2e.test_transfer_between_deployments import (
    PMA,
    End,
    device_keys,
    moves,
    register_pma,
    supplier,
)
from tests.governance import person
from tests.governed import Office
from tests.hsm_fixtures import make_nss, make_softhsm
from tests.mac_corridor import Asked, asked_of
from tests.mac_keys import derived, shared_secret, tag

ENTITY = "90-B3-D5-1F-30-01-00-00"
COMMANDS, BROKER = "reference-signing", "broker-agreement"
OCA = ("root-oca", "issuing-oca")
TITLE = bytes.fromhex("4d4d4d0000bc614e")
GET = bytes.fromhex("c0010000080000010000ff0200")
SETTINGS = (
    f'[gbcs]\naccess_control_brokers = ["{rtds.BROKER}"]\n\n[smets1]\nsystem_titles = ["{TITLE.hex()}"]\n'
)
HOW_MANY = 4
IN_TRANSFER = ["lifecycle/state"] * 5
NOT_THERE = ["key/not-granted"] * 5


class EveryClass:
    """The trials, at both ends."""

    keys = (*OCA, COMMANDS, BROKER)

    def __init__(self, source: End, target: End, devices: dict[str, bytes], data: Path) -> None:
        self._source, self._target = source, target
        self._name, self._device_key = next(iter(devices.items()))
        found = [one for one in rtds.commands(data / "rtds") if one.is_pre_command]
        # some share originator, target and counter; here each is alone under its own
        apart = {one.octets[3:29]: one for one in found if _originator(one.octets) == ENTITY}
        self._messages = list(apart.values())[: 2 * HOW_MANY]
        brokers = [one for one in asked_of(data) if _originator(one.request.payload) == rtds.BROKER]
        plain = {one.request.payload[3:29]: one for one in brokers if not one.command.signature}
        self._commands = list(plain.values())[: 2 * HOW_MANY]
        assert (len(self._messages), len(self._commands)) == (2 * HOW_MANY, 2 * HOW_MANY)
        self._issuer = certificates.issuing_authority(certificates.root_authority())
        self._points: dict[str, bytes] = {}
        self._serials: dict[str, int] = {}

    def at_source(self) -> None:
        with self._source.deployment.client("operator") as client:
            self._points = {name: client.get_key(name).public_point for name in self.keys}
            self._certificates(client)
            self._sign(client, self._messages[:HOW_MANY])
            self._mac(client, self._commands[:HOW_MANY])
            # a Device's keys have come without its authentication key: encrypted only
            self._protect(client, 5)

    def gone(self) -> None:
        # on its way it is nobody's: at the source by its state, at the destination since it is not there
        assert self._refused(self._source) == IN_TRANSFER
        assert self._refused(self._target) == NOT_THERE

    def at_destination(self) -> None:
        with self._target.deployment.client("operator") as client:
            assert {name: client.get_key(name).public_point for name in self.keys} == self._points
            self._certificates(client)
            # the same policy: what only the Root may sign, the Issuing OCA key may not
            with pytest.raises(NotPermitted):
                self._issue(client, "issuing-oca", "Z8")
            # what the source used up is used up here, for other bytes
            for asked in self._used_up(client):
                with pytest.raises(Conflict) as taken:
                    asked()
                assert taken.value.rule.startswith("once/"), taken.value
            # the messages the source signed, again, and others
            self._sign(client, self._messages)
            self._mac(client, self._commands)
            with pytest.raises(Conflict) as refused:
                self._protect(client, 5)
            assert refused.value.rule == "rising/dlms-invocation-counter"
            self._protect(client, 6)
        assert self._refused(self._source) == IN_TRANSFER

    def _refused(self, end: End) -> list[str]:
        """Everything that these keys do is asked for, and refused; by which rules."""
        with end.deployment.client("operator") as client:
            rules = []
            for asked in self._every(client):
                with pytest.raises(CallError) as refused:
                    asked()
                rules.append(refused.value.rule)
        return rules

    def _used_up(self, client: Client) -> Iterator[Callable[[], object]]:
        """What the source used once, under other bytes: a serial number, originator counters."""
        yield lambda: self._issue(client, "root-oca", "Z9", self._serials["root-oca"])
        used = self._messages[0].octets
        others = ((_under(one.octets, used), one) for one in self._messages[HOW_MANY:])
        octets, one = next(pair for pair in others if _parses(precommand.parse, pair[0]))
        yield lambda: self._pre_command(client, octets, rtds.statement(one))
        taken = self._commands[0]
        payloads = [_under(one.request.payload, taken.request.payload) for one in self._commands[HOW_MANY:]]
        place, payload = next(
            found for found in enumerate(payloads, HOW_MANY) if _parses(mac.parse, found[1])
        )
        recipient = taken.command.agreement.recipient
        yield lambda: self._command(client, self._commands[place], payload, recipient)

    def _every(self, client: Client) -> Iterator[Callable[[], object]]:
        yield lambda: self._issue(client, "root-oca", "Z7")
        yield lambda: self._organisation(client)
        yield lambda: self._sign(client, self._messages[-1:])
        yield lambda: self._mac(client, self._commands[-1:])
        yield lambda: self._protect(client, 50)

    def _certificates(self, client: Client) -> None:
        self._issue(client, "root-oca", f"Y{len(self._serials)}")
        self._organisation(client)

    def _issue(self, client: Client, key_id: str, name: str, serial: int = 0) -> None:
        """An OCA Certificate, by whichever key is asked."""
        serial = serial or self._serial()
        own = client.get_key(key_id).certificate
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        start = smki.now() - timedelta(minutes=1)
        builder = certificates.issuing_builder(own, public, name, serial, start, 3650)
        self._verify(builder.sign(RemotePrivateKey.of(client, key_id), hashes.SHA256()), own)
        self._serials.setdefault(key_id, serial)

    def _organisation(self, client: Client) -> None:
        own = client.get_key("issuing-oca").certificate
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        builder = certificates.organisation_builder(
            own, public, role=2, entity=ENTITY, serial=self._serial(), start=smki.now() - timedelta(minutes=1)
        )
        self._verify(builder.sign(RemotePrivateKey.of(client, "issuing-oca"), hashes.SHA256()), own)

    def _verify(self, made: x509.Certificate, issuer: bytes) -> None:
        made.verify_directly_issued_by(x509.load_der_x509_certificate(issuer))

    def _serial(self) -> int:
        return x509.random_serial_number() >> 36 | 1 << 120

    def _sign(self, client: Client, some: list[rtds.Message]) -> None:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self._points[COMMANDS])
        for one in some:
            answer = self._pre_command(client, one.octets, rtds.statement(one))
            content = precommand.parse(one.octets, rtds.PROFILE)
            assert answer.artefact == precommand.signed(content, answer.signature)
            assert rtds.verifies(public, answer.signature, content.signed_bytes), one

    def _pre_command(self, client: Client, octets: bytes, said: Statement) -> crypto_pb2.SignResponse:
        return client.sign(
            request(
                COMMANDS,
                gbcs_pre_command=octets,
                service_reference_variant=said.service_reference_variant,
                user_id=said.user_id,
                user_role=said.user_role,
            )
        )

    def _command(
        self, client: Client, one: Asked, payload: bytes, recipient: bytes
    ) -> crypto_pb2.SignResponse:
        return client.apply_mac(
            request(
                BROKER,
                gbcs_command=payload,
                device_certificate=device_certificate(self._issuer, str(Eui64(recipient))),
                service_reference_variant=one.request.statement.service_reference_variant,
            )
        )

    def _mac(self, client: Client, some: list[Asked]) -> None:
        for one in some:
            answer = self._command(client, one, one.request.payload, one.command.agreement.recipient)
            # as published, but for a MAC by this key, which the Device verifies with its own
            assert answer.artefact[:-12] == one.whole[:-12]
            read = mac.read_back(answer.artefact, 65_535)
            key = derived(shared_secret(DEVICE, self._points[BROKER]), read.agreement)
            assert answer.signature == tag(key, read.agreement, read.additional)[:12]

    def _protect(self, client: Client, counter: int) -> None:
        asked = messages.plaintext(TITLE, counter, GET)
        answer: crypto_pb2.SignResponse = client.encrypt(
            request(f"{self._name}.encryption", dlms_encryption=asked, user_role="S1SP")
        )
        assert answer.artefact == protected(0x20, TITLE, counter, GET, ek=self._device_key, tag=0xC8)


def _under(octets: bytes, used: bytes) -> bytes:
    """A message with another's originator counter, originator and target in the place of its own."""
    return octets[:3] + used[3:29] + octets[29:]


def _parses(parse: Callable[[bytes, GbcsProfile], object], octets: bytes) -> bool:
    """Whether it still is a message: some have part of their counter inside as well."""
    try:
        parse(octets, rtds.PROFILE)
    except Malformed:
        return False
    return True


def _originator(octets: bytes) -> str:
    return str(Eui64(octets[12:20]))


def operator(end: End, system: str) -> None:
    """A caller that may ask for all of it."""
    end.deployment.identity("operator")
    certificate = x509.load_pem_x509_certificate(
        (end.deployment.folder / "tls" / "operator.pem").read_bytes()
    )
    record = CallerRecord(
        caller_id=CallerId("operator"),
        version=1,
        state=CallerState.REGISTERED,
        certificate_sha256=certificate.fingerprint(hashes.SHA256()),
        system=SystemName(system),
        user_roles=frozenset(UserRole),
        user_ids=frozenset({Eui64.parse(ENTITY)}),
        grants=(
            *(Grant(operation="sign", key_class=one) for one in (*OCA, "command-signing")),
            Grant(operation="mac", key_class="key-agreement"),
            Grant(operation="encrypt", key_class="smets1-encryption"),
        ),
    )
    document = json.loads(json.dumps(caller_document(record)))
    end.office.carry("caller.register", "operator", ("ben", "cat"), record=document)


@contextmanager
def two_ends(folder: Path) -> Iterator[tuple[End, End]]:
    """Both deployments, serving, with everybody registered and every key made at the source."""
    papers = folder / "papers"
    with ThreadPoolExecutor() as pool:
        begun = [
            pool.submit(End, folder / name, name, papers, make, SETTINGS)
            for name, make in (("fault", make_softhsm), ("next", make_nss))
        ]
        source, target = (one.result() for one in begun)
    pma = {name: person(name, CustodianRole.PMA_APPROVER, system=SystemName("any")) for name in PMA}
    (folder / "pma").mkdir()
    for name, one in pma.items():
        public = one.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "pma" / f"{name}.pem").write_bytes(public)
        private = one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(private)
    with ExitStack() as stack:
        for end, system in ((source, "fault"), (target, "next")):
            stack.enter_context(end.deployment.serving())
            end.office = Office(stack.enter_context(end.deployment.client("office")), end.people)
            register_pma(end.office, pma, system)
            supplier(end.office, end.deployment, system)
            operator(end, system)
        yield source, target


def test_keys_of_every_class_work_where_they_are_and_nowhere_else(gbcs_data: Path, tmp_path: Path) -> None:
    with two_ends(tmp_path) as (source, target):
        office = source.office
        with source.deployment.client("operator") as client:
            authorities(office, client)
        office.key(SUPPLIER_KEY, "command-signing", role=2, eui64="90-B3-D5-1F-30-0A-00-00")
        office.key(COMMANDS, "command-signing", role=2, eui64=ENTITY)
        office.key(BROKER, "key-agreement", role=4, eui64=rtds.BROKER)
        for name in (SUPPLIER_KEY, COMMANDS, BROKER):
            office.carry("key.activate", name)
        devices = device_keys(source, tmp_path)
        moves(source, target, tmp_path, (), EveryClass(source, target, devices, gbcs_data))
    for end in (source, target):
        end.deployment.verified_log()
