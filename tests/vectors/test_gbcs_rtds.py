"""Real GBCS messages: every Pre-Command signs with the published key of its originator, and with no other.

Origin: DCC Reference Test Data Set 4.5.0 and its key store, found through the fixture `gbcs_data`; never committed.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core.content.base import Once
from cryptosvc.core.content.gbcs import codes, framing, precommand
from cryptosvc.core.errors import Forbidden, Malformed
from cryptosvc.core.names import Eui64, RemotePartyRole, UnixNanoseconds
from tests.certificates import key_record
from tests.rtds import PROFILE, Message, commands, published, sign, statement, verifies

AT = UnixNanoseconds(0)


@pytest.fixture
def everything(gbcs_data: Path) -> tuple[Message, ...]:
    found = commands(gbcs_data / "rtds")
    assert len(found) > 200
    return found


@pytest.fixture
def pre_commands(everything: tuple[Message, ...]) -> tuple[Message, ...]:
    found = tuple(message for message in everything if message.is_pre_command)
    assert len(found) > 50
    return found


def test_every_command_is_read_and_written_again(everything: tuple[Message, ...]) -> None:
    for message in everything:
        content = precommand.parse(message.octets, PROFILE)
        bare = message.octets.removesuffix(b"\x00") if not message.is_pre_command else message.octets
        assert precommand.emit(content)[:-1] in (message.octets, bare), message
        assert precommand.parse(precommand.emit(content), PROFILE) == content


def test_every_pre_command_signs_with_its_originators_key(
    gbcs_data: Path, pre_commands: tuple[Message, ...]
) -> None:
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        key, record = published(gbcs_data, content.originator)
        precommand.bind(content, record, statement(message), PROFILE, AT)
        signature = sign(key, content.signed_bytes)
        signed = precommand.assemble(content, signature, record)
        assert signed == message.octets + b"\x40" + signature
        assert verifies(key.public_key(), signature, signed[1:-65])
        with pytest.raises(Malformed, match="signed already"):
            precommand.parse(signed, PROFILE)


def test_published_signatures_verify_over_what_we_would_sign(
    gbcs_data: Path, everything: tuple[Message, ...]
) -> None:
    checked: Counter[str] = Counter()
    for message in everything:
        if message.signature:
            content = precommand.parse(message.octets, PROFILE)
            key, record = published(gbcs_data, content.originator)
            precommand.bind(content, record, statement(message), PROFILE, AT)
            assert verifies(key.public_key(), message.signature, content.signed_bytes), message
            checked[content.code.text] += 1
    assert sum(checked.values()) > 50
    assert len(checked) > 20


def test_a_signed_commands_inner_part_is_the_assembled_pre_command(everything: tuple[Message, ...]) -> None:
    signed = {message.name: message for message in everything if message.signature}
    pairs = 0
    for message in everything:
        twin = signed.get(message.name.replace("_PRECOMMAND", "_COMMAND")) if message.is_pre_command else None
        if twin is not None:
            assert twin.octets == message.octets
            pairs += 1
    assert pairs > 50


def test_each_is_refused_with_another_key(gbcs_data: Path, pre_commands: tuple[Message, ...]) -> None:
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        _, record = published(gbcs_data, content.originator)
        _, other = published(gbcs_data, "90-B3-D5-1F-30-02-00-00")
        with pytest.raises(Forbidden) as refusal:
            precommand.bind(content, other, statement(message), PROFILE, AT)
        assert refusal.value.rule == "gbcs/originator"
        for role in RemotePartyRole:
            changed = key_record("command-signing", _public(gbcs_data), role=role, entity=content.originator)
            if role is not record.role:
                with pytest.raises(Forbidden) as refusal:
                    precommand.bind(content, changed, statement(message), PROFILE, AT)
                assert refusal.value.rule in ("gbcs/role", "gbcs/broker")
                assert refusal.value.clause in ("G2.56", "G3.29")


def test_each_is_refused_from_another_originator(gbcs_data: Path, pre_commands: tuple[Message, ...]) -> None:
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        _, record = published(gbcs_data, content.originator)
        forged = message.octets[:12] + bytes(8) + message.octets[20:]
        with pytest.raises(Forbidden) as refusal:
            precommand.bind(precommand.parse(forged, PROFILE), record, statement(message), PROFILE, AT)
        assert refusal.value.rule == "gbcs/originator"


def test_commands_without_a_signature_are_never_signed(
    everything: tuple[Message, ...], gbcs_data: Path
) -> None:
    refused = set()
    for message in everything:
        content = precommand.parse(message.octets, PROFILE)
        if not content.code.signers:
            assert not message.signature
            for role in RemotePartyRole:
                key = key_record("command-signing", _public(gbcs_data), role=role, entity=content.originator)
                with pytest.raises(Forbidden) as refusal:
                    precommand.bind(content, key, statement(message), PROFILE, AT)
                assert refusal.value.rule in ("gbcs/not-signed", "gbcs/broker")
            refused.add(content.code.text)
    assert len(refused) > 30


def test_the_same_counter_with_other_bytes_is_the_same_promise_with_another_digest(
    pre_commands: tuple[Message, ...],
) -> None:
    digests: dict[str, set[bytes]] = defaultdict(set)
    messages: dict[str, set[bytes]] = defaultdict(set)
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        (once,) = content.promises
        assert isinstance(once, Once)
        digests[once.value].add(once.digest)
        messages[once.value].add(content.signed_bytes)
    shared = [value for value, found in messages.items() if len(found) > 1]
    assert shared, "some Pre-Commands share originator, target and counter"
    assert all(len(digests[value]) == len(messages[value]) for value in messages)


def test_every_single_octet_change_and_truncation_is_refused_or_another_message(
    pre_commands: tuple[Message, ...],
) -> None:
    """Twenty messages, every octet × every value, every truncation. What is still read differs in what is signed.

    Read after a change: another high counter octet (DLMS binds the low three; GBZ and GCS28 none), another originator
    or target, another message code with the same payload, or another value where the use case lets one vary. Nothing
    else of the header may change.
    """
    chosen = _twenty(pre_commands)
    assert len(chosen) == 20
    for message in chosen:
        original = message.octets
        before = precommand.parse(original, PROFILE)
        payload_at = framing.read(original, 65_535).start
        for at in range(len(original)):
            for value in range(256):
                changed = original[:at] + bytes((value,)) + original[at + 1 :]
                if changed == original:
                    continue
                try:
                    after = precommand.parse(changed, PROFILE)
                except Malformed:
                    continue
                assert after.signed_bytes == changed[1:]
                assert after.signed_bytes != before.signed_bytes
                assert after.promises != before.promises
                assert (
                    at in range(3, 11)
                    or at in range(12, 20)
                    or at in range(21, 29)
                    or at in (31, 32)
                    or at > payload_at
                )
                if at <= payload_at:
                    assert after.facts != before.facts
        for size in range(len(original)):
            with pytest.raises(Malformed):
                precommand.parse(original[:size], PROFILE)


def test_a_bound_counter_octet_never_changes_alone(pre_commands: tuple[Message, ...]) -> None:
    bound = 0
    for message in pre_commands:
        content = precommand.parse(message.octets, PROFILE)
        if content.code.payload is codes.Payload.DLMS:
            for at in (8, 9, 10):
                changed = bytearray(message.octets)
                changed[at] ^= 1
                with pytest.raises(Malformed) as refusal:
                    precommand.parse(bytes(changed), PROFILE)
                assert refusal.value.rule == "gbcs/invoke-id"
                bound += 1
    assert bound > 60


def test_known_answers_keep_their_signed_bytes(gbcs_data: Path) -> None:
    checked = 0
    for case in json.loads((gbcs_data / "known_answers.json").read_text()):
        if case["signed_bytes"] and int(case["cra"]) == framing.COMMAND:
            signed_bytes = bytes.fromhex(case["signed_bytes"])
            content = precommand.parse(b"\xdf" + signed_bytes + b"\x00", PROFILE)
            assert content.signed_bytes == signed_bytes
            assert content.originator == str(Eui64(bytes.fromhex(case["originator"])))
            assert content.code.text == case["message_code"].upper()
            checked += 1
    assert checked >= 5


def test_the_table_agrees_with_the_service_reference_variants(gbcs_data: Path) -> None:
    listed: dict[str, set[str]] = defaultdict(set)
    for line in (gbcs_data / "service_reference_variants.csv").read_text().splitlines()[1:]:
        variant, _, code, signed = line.split(",")
        row = codes.by_number(int(code, 16))
        if bool(row.signers) == (signed == "critical") and variant != "NA":
            listed[code].add(variant)
    for code, variants in listed.items():
        row = codes.by_number(int(code, 16))
        assert variants == {*row.variants, *row.broker_variants}, code


def test_the_table_agrees_with_the_roles_that_sign(gbcs_data: Path) -> None:
    """Each `| key holder (role) | codes |` line of the facts names exactly our signers, but for two known by name only."""
    known_by_name = {(RemotePartyRole.SUPPLIER, 0x0100), (RemotePartyRole.WAN_PROVIDER, 0x0101)}
    said: dict[RemotePartyRole, set[int]] = {}
    for line in (gbcs_data / "facts.md").read_text().splitlines():
        holder = re.match(r"\| [^|]*\((\d)\)[^|]*\|(.*)\|$", line)
        if holder:
            listed = re.sub(r"0101 exists|\(.*?\)", "", holder[2])
            said[RemotePartyRole(int(holder[1]))] = {
                int(code, 16) for code in re.findall(r"\b0[0-9A-F]{3}\b", listed)
            }
    assert len(said) == 7
    ours = {(role, code.number) for code in codes.CODES.values() for role in code.signers}
    assert ours - known_by_name == {(role, code) for role, listed in said.items() for code in listed}


def test_every_command_of_the_message_code_list_is_in_the_table(gbcs_data: Path) -> None:
    missing = []
    for case in json.loads((gbcs_data / "message_codes.json").read_text()):
        seen = case.get("rtds") or {}
        if any(kind.startswith(("signed", "unsigned", "precmd")) for kind in seen):
            row = codes.CODES.get(bytes.fromhex(case["message_code"][2:]))
            if row is None:
                missing.append(case["message_code"])
            elif any(kind.startswith("signed") for kind in seen):
                assert row.signers or row.number == 0x0109, case
    assert not missing


def _public(folder: Path) -> ec.EllipticCurvePublicKey:
    return published(folder, "90-B3-D5-1F-30-02-00-00")[0].public_key()


def _twenty(pre_commands: tuple[Message, ...]) -> list[Message]:
    """Twenty short ones, of as many use cases as there are."""
    by_use_case: dict[str, list[Message]] = defaultdict(list)
    for message in sorted(pre_commands, key=lambda message: (len(message.octets), message.name)):
        by_use_case[message.use_case].append(message)
    rounds = [group[turn] for turn in range(4) for group in by_use_case.values() if turn < len(group)]
    return [message for message in rounds if len(message.octets) < 300][:20]
