"""The published vectors of DLMS security suite 0, through the whole corridor with the keys in a token."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.core.names import ContentForm
from tests.dlms_device import protected
from tests.hsm_fixtures import make_softhsm
from tests.smets1_corridor import (
    CLIENT,
    GET,
    HLS_CLIENT,
    METER,
    Smets1Walk,
    asked,
    name,
    smets1_walk,
    vectors,
)

pytestmark = pytest.mark.xdist_group("smets1")


@pytest.fixture
async def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Smets1Walk]:
    token = make_softhsm(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    async with smets1_walk(token, tmp_path) as made:
        yield made


async def test_every_vector_comes_out(walk: Smets1Walk, gbcs_data: Path) -> None:
    found = vectors(gbcs_data)
    # HLS 5: f(StoC), with the lowest counter
    hls = found["hls_gmac"]
    answer = await walk.done(
        asked(
            ContentForm.DLMS_CHALLENGE,
            bytes.fromhex(hls["StoC"]),
            int(hls["IC"], 16),
            bytes.fromhex(hls["system_title"]),
        )
    )
    assert bytes.fromhex(hls["system_title"]) == HLS_CLIENT
    assert answer.checked.artefact == bytes.fromhex("10" + hls["IC"] + hls["tag"])
    assert answer.checked.signature == bytes.fromhex(hls["tag"])
    # authenticated and encrypted, then authenticated only, which the vectors have under one counter and this never does
    both = found["auth_enc"]
    counter = int(both["IC"], 16)
    assert (bytes.fromhex(both["plaintext"]), bytes.fromhex(both["system_title"])) == (GET, CLIENT)
    answer = await walk.done(asked(ContentForm.DLMS_AUTHENTICATED_ENCRYPTION, GET, counter))
    body = bytes.fromhex("30" + both["IC"] + both["ciphertext_tag"])
    assert answer.checked.artefact == bytes((0xC8, len(body))) + body
    assert answer.checked.derivation == "service"
    again = await walk.refusal(asked(ContentForm.DLMS_AUTHENTICATION, GET, counter))
    assert again.rule == "rising/dlms-invocation-counter"
    # key wrap
    wrap = found["key_wrap_rfc3394"]
    request = asked(ContentForm.DLMS_KEY_CHANGE, key_id=name("master"), second=name("encryption", 2))
    answer = await walk.done(replace(request, payload=b"encryption.2"))
    assert answer.checked.artefact == bytes.fromhex(wrap["wrapped"])
    assert answer.checked.derivation == "module"


async def test_the_tag_of_what_is_only_authenticated(walk: Smets1Walk, gbcs_data: Path) -> None:
    found = vectors(gbcs_data)
    counter = int(found["auth_enc"]["IC"], 16)
    answer = await walk.done(asked(ContentForm.DLMS_AUTHENTICATION, GET, counter))
    tag = bytes.fromhex(found["auth_only"]["tag"])
    assert answer.checked.signature == tag
    body = bytes.fromhex("10" + found["auth_enc"]["IC"]) + GET + tag
    assert answer.checked.artefact == bytes((0xC8, len(body))) + body


async def test_encrypted_only_is_the_stream_of_what_is_both(walk: Smets1Walk, gbcs_data: Path) -> None:
    both = vectors(gbcs_data)["auth_enc"]
    answer = await walk.done(asked(ContentForm.DLMS_ENCRYPTION, GET, int(both["IC"], 16)))
    assert answer.checked.artefact[2:] == bytes.fromhex(
        "20" + both["IC"] + both["ciphertext_tag"][: 2 * len(GET)]
    )
    assert (answer.checked.signature, answer.checked.derivation) == (b"", "module")


@pytest.mark.parametrize("security", [0x10, 0x20, 0x30])
async def test_what_a_device_sent_is_read(walk: Smets1Walk, security: int) -> None:
    plain = bytes.fromhex("c401000009060102030405ff")
    sent = protected(security, METER, 7, plain)
    answer = await walk.done(asked(ContentForm.DLMS_PROTECTED, sent, title=METER))
    assert answer.checked.plaintexts == (plain,)
    assert (answer.checked.artefact, answer.checked.signature) == (b"", b"")
    # the same again is no new thing: nothing is taken
    assert (await walk.done(asked(ContentForm.DLMS_PROTECTED, sent, title=METER))).checked.plaintexts == (
        plain,
    )
