"""Real GBCS messages and their MACs: every Command that carries one comes out again, to its last octet.

Origin: DCC Reference Test Data Set 4.5.0 and its key store, found through the fixture `gbcs_data`; never committed.
The keys are derived by pyca here; tests/contract does the same with PKCS#11 modules.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from cryptosvc.core.content.gbcs import agreement, answer, attributes, codes, envelope, framing, mac, top_up
from cryptosvc.core.content.gbcs.agreement import Agreement, Purpose
from cryptosvc.core.content.gbcs.codes import Payload
from cryptosvc.core.errors import Forbidden, Malformed
from tests.mac_keys import decrypted, derived, point, private, shared_secret, tag
from tests.rtds import PROFILE

BROKER = bytes.fromhex("90b3d51f30000002")
LARGEST = 65_535


def messages(folder: Path, kind: str) -> list[tuple[str, bytes]]:
    """Name and octets of every message of the data set whose name says that it is a COMMAND, RESPONSE or ALERT."""
    paths = sorted((folder / "rtds").rglob("*.HEX"))
    return [(path.name, bytes.fromhex(path.read_text())) for path in paths if f"_{kind}_" in path.name]


def with_mac(folder: Path, kind: str) -> list[tuple[str, bytes]]:
    found = messages(folder, kind)
    return [(name, octets) for name, octets in found if octets[0] == framing.GENERAL_CIPHERING]


def key_of(folder: Path, of: Agreement, holder: bytes, peer: bytes, kind: str = "ka") -> bytes:
    return derived(shared_secret(private(folder, holder, kind), point(folder, peer)), of)


def test_every_command_comes_out_identical_from_what_is_inside(gbcs_data: Path) -> None:
    finished = Counter[str]()
    for name, whole in with_mac(gbcs_data, "COMMAND"):
        read = mac.read_back(whole, LARGEST)
        command = mac.parse(read.inner, PROFILE)
        assert command.agreement == read.agreement
        key = key_of(gbcs_data, command.agreement, BROKER, command.agreement.recipient)
        made = tag(key, command.agreement, command.additional)[: agreement.TAG_OCTETS]
        assert mac.assemble(command, made) == whole, name
        finished["signed" if command.signature else "unsigned"] += 1
        if not command.signature:
            # as DUIS has it, and as older software left it out
            assert mac.parse(read.inner[:-1], PROFILE) == command
    assert finished["signed"] > 50
    assert finished["unsigned"] > 100


def test_the_service_derives_what_other_software_derives(gbcs_data: Path) -> None:
    for _, whole in with_mac(gbcs_data, "COMMAND")[:20]:
        of = mac.read_back(whole, LARGEST).agreement
        secret = shared_secret(private(gbcs_data, BROKER), point(gbcs_data, of.recipient))
        assert bytes(agreement.derive(secret, of.other_info)) == derived(secret, of)


@pytest.mark.parametrize(("kind", "least"), [("RESPONSE", 100), ("ALERT", 3)])
def test_the_mac_of_every_response_and_alert_verifies_and_no_other_does(
    gbcs_data: Path, kind: str, least: int
) -> None:
    verified = 0
    for name, whole in with_mac(gbcs_data, kind):
        read = mac.read_back(whole, LARGEST)
        key = key_of(gbcs_data, read.agreement, read.agreement.recipient, read.agreement.initiator)
        made = tag(key, read.agreement, read.additional)[: agreement.TAG_OCTETS]
        envelope.require_equal(made, read.mac)
        for wrong in (bytes(12), made[:-1], made[:-1] + bytes((made[-1] ^ 1,)), made + b"\x00"):
            with pytest.raises(Forbidden) as refusal:
                envelope.require_equal(made, wrong)
            assert (str(refusal.value), refusal.value.rule) == ("not verified", "gbcs/mac-not-verified"), name
        verified += 1
    assert verified >= least


def test_known_answers_with_every_intermediate_value(gbcs_data: Path) -> None:
    cases = json.loads((gbcs_data / "known_answers.json").read_text())
    assert len(cases) == 12
    checked = Counter[str]()
    for case in cases:
        whole = bytes.fromhex(case["message"])
        if "mac" not in case:
            apdu = answer.read(whole, "gbcs_message")
            assert (apdu.unsigned[1:].hex(), apdu.signature.hex()) == (
                case["signed_bytes"],
                case["signature_rs"],
            )
            assert apdu.payload.hex() == case["payload"]
            checked["signed"] += 1
            continue
        read = mac.read_back(whole, LARGEST)
        of, apdu = read.agreement, read.apdu
        holder, kind = re.fullmatch(
            r"keystore/([0-9a-f]{16})-(.*)\.key", case["mac_private_key_file"]
        ).groups()
        peer = re.fullmatch(r"keystore/([0-9a-f]{16})-ka\.pem", case["mac_peer_cert_file"])[1]
        secret = shared_secret(
            private(gbcs_data, bytes.fromhex(holder), kind), point(gbcs_data, bytes.fromhex(peer))
        )
        assert secret.hex() == case["ecdh_z"]
        assert of.other_info.hex() == case["other_info"]
        key = bytes(agreement.derive(secret, of.other_info))
        assert key.hex() == case["aes_key"]
        assert of.vector.hex() == case["iv"]
        assert read.additional.hex() == case["aad"]
        made = tag(key, of, read.additional)[: agreement.TAG_OCTETS]
        assert made.hex() == read.mac.hex() == case["mac"]
        assert (apdu.cra, f"{apdu.code:04x}") == (case["cra"], case["message_code"])
        assert (apdu.originator.hex(), apdu.target.hex()) == (case["originator"], case["recipient"])
        assert apdu.counter == int(case["originator_counter"], 16)
        assert (apdu.other_info.hex(), apdu.payload.hex()) == (case["other_information"], case["payload"])
        if apdu.cra is Purpose.COMMAND:
            command = mac.parse(read.inner, PROFILE)
            assert command.signature.hex() == (case["signature_rs"] or "")
            assert mac.assemble(command, made) == whole
        checked["mac"] += 1
    assert checked == {"mac": 10, "signed": 2}


def test_commands_that_go_without_a_mac_are_given_none(gbcs_data: Path) -> None:
    refused = 0
    for case in json.loads((gbcs_data / "known_answers.json").read_text()):
        if case["message_code"] == "0108":
            with pytest.raises(Malformed) as refusal:
                mac.parse(bytes.fromhex(case["message"]), PROFILE)
            assert refusal.value.rule == "gbcs/without-mac"
            refused += 1
    assert refused == 1


def test_pre_commands_of_critical_codes_are_not_given_a_mac_before_they_are_signed(gbcs_data: Path) -> None:
    refused = 0
    for name, whole in messages(gbcs_data, "PRECOMMAND"):
        for form in (whole, whole + b"\x00"):
            with pytest.raises(Malformed) as refusal:
                mac.parse(form, PROFILE)
            assert refusal.value.rule == "gbcs/signature-missing", name
            assert refusal.value.field == "gbcs_command"
        refused += 1
    assert refused > 50


def test_what_shares_a_tuple_makes_the_same_promise_over_other_bytes(gbcs_data: Path) -> None:
    promised: dict[str, set[bytes]] = defaultdict(set)
    for _, whole in with_mac(gbcs_data, "COMMAND"):
        promise = mac.parse(mac.read_back(whole, LARGEST).inner, PROFILE).promise
        assert promise.scope == "gbcs-mac"
        promised[promise.value].add(promise.digest)
    assert any(len(digests) > 1 for digests in promised.values())


def test_every_encrypted_attribute_decrypts_for_the_party_it_is_for(gbcs_data: Path) -> None:
    decoded = Counter[Payload]()
    for name, whole in messages(gbcs_data, "RESPONSE"):
        inner = envelope.unwrap(whole, LARGEST, "x")[0] if whole[0] == framing.GENERAL_CIPHERING else whole
        apdu = answer.read(inner, "gbcs_message")
        payload = codes.by_number(apdu.code).payload
        parts = attributes.read(apdu, payload)
        assert bool(parts) == (b"\x31\x00\x00\x00\x00" in apdu.payload), name
        of = attributes.agreement_of(apdu)
        for part in parts:
            key = key_of(gbcs_data, of, of.recipient, of.initiator)
            plain = decrypted(key, of, attributes.ADDITIONAL, part.ciphertext, part.tag)
            assert len(plain) == len(part.ciphertext)
            with pytest.raises(InvalidTag):
                decrypted(key, of, attributes.ADDITIONAL, part.ciphertext, bytes(12))
            decoded[payload] += 1
    assert decoded[Payload.DLMS] >= 5
    assert decoded[Payload.GBZ] >= 9


def test_every_top_up_carries_the_authentication_of_the_prepayment_key(gbcs_data: Path) -> None:
    verified = 0
    for name, whole in with_mac(gbcs_data, "COMMAND"):
        apdu = mac.read_back(whole, LARGEST).apdu
        digits = re.search(rb"[0-9]{20}", apdu.payload)
        if apdu.code not in (0x0007, 0x0097) or digits is None:
            continue
        token = top_up.Token(apdu.originator, apdu.target, apdu.counter, top_up.ValueClass.POUNDS, 10)
        key = key_of(gbcs_data, token.agreement, apdu.originator, apdu.target, "pp-ka")
        made = tag(key, token.agreement, token.additional)[-top_up.AUTHENTICATION_OCTETS :]
        assert top_up.utrn(token, made) == digits[0].decode(), name
        assert top_up.authentication_of(token, digits[0].decode()) == made
        verified += 1
    assert verified >= 2
