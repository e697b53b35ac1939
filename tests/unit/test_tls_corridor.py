"""TLS through the whole corridor: OpenSSL completes on its artefact, and a random is good for one signature (G2.44(d))."""

import asyncio
from dataclasses import replace

import pytest

from cryptosvc.core.case import Request
from cryptosvc.core.errors import Conflict, Forbidden, Malformed
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.core.registry import Grant
from cryptosvc.flow.sign import NotSigned, Signed
from tests import tls_parties
from tests.corridor import MODULE, SYSTEM, Corridor, caller_record, pre_command_request
from tests.tls_parties import OURS, SCENARIOS, performed
from tests.tls_stack import vector

KEY = KeyId(OURS)


def corridor_of_tls() -> Corridor:
    corridor = Corridor(caller=caller_record(Grant(operation="sign", key_class="tls")))
    record = replace(tls_parties.key_record(OURS), key_id=KEY, system=SYSTEM, module=MODULE)
    corridor.keys.records[KEY] = record
    corridor.hsm.private = {KEY: tls_parties.private_key(OURS)}
    corridor.clock.at = tls_parties.AT
    return corridor


def asked(corridor: Corridor, form: str, payload: bytes, request_id: str) -> Signed | NotSigned:
    request = Request(request_id=RequestId(request_id), key_id=KEY, form=ContentForm(form), payload=payload)
    (answer,) = asyncio.run(corridor.signer.sign(corridor.principal, [request]))
    return answer


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_handshake_completes_on_what_the_corridor_answers(name: str) -> None:
    corridor = corridor_of_tls()
    answers = []

    def sign(form: str, payload: bytes) -> bytes:
        answers.append(asked(corridor, form, payload, "handshake"))
        assert isinstance(answers[0], Signed)
        return answers[0].checked.artefact

    stack = performed(name, sign)
    assert stack.them.getpeercert(binary_form=True) == tls_parties.der(OURS)
    (answer,) = answers
    assert answer.checked.claim.authorised.clause == "G2.44(d)"


def test_a_random_signs_one_set_of_parameters_for_ever() -> None:
    corridor = corridor_of_tls()
    form = "tls_server_key_exchange"

    def payload(seed: str) -> bytes:
        point = tls_parties.key_record(seed).public_point
        return b"c" * 32 + b"s" * 32 + b"\x03\x00\x17" + vector(point, 1)

    assert isinstance(asked(corridor, form, payload("one"), "r1"), Signed)
    again = asked(corridor, form, payload("two"), "r2")
    assert isinstance(again, NotSigned)
    assert isinstance(again.error, Conflict)
    assert isinstance(asked(corridor, form, payload("one"), "r3"), Signed)
    assert len(corridor.hsm.signed) == 2


def test_the_key_signs_no_other_content_and_no_other_key_signs_this() -> None:
    corridor = corridor_of_tls()
    other = replace(pre_command_request(), key_id=KEY)
    (answer,) = asyncio.run(corridor.signer.sign(corridor.principal, [other]))
    assert isinstance(answer, NotSigned)
    assert isinstance(answer.error, Forbidden)
    digest = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
    for form in ("tls_transcript", "tls_server_key_exchange"):
        refused = asked(corridor, form, digest, form)
        assert isinstance(refused, NotSigned)
        assert isinstance(refused.error, Malformed)
    assert corridor.hsm.signed == []
