"""DSSE envelopes: one form per envelope, every signature good, signers counted by key."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from securesystemslib.dsse import Envelope as RefereeEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from cryptosvc.core import dsse
from cryptosvc.core.errors import Forbidden, Malformed

TYPE = "application/vnd.example+json"


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def spki_of(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signer_of(key):
    return lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))


KEY, OTHER = new_key(), new_key()
KEYS = {"one": spki_of(KEY), "two": spki_of(OTHER)}


def both() -> dsse.Envelope:
    return dsse.sign(TYPE, b"\x00statement\xff", {"one": signer_of(KEY), "two": signer_of(OTHER)})


def tree(envelope: dsse.Envelope) -> dict:
    return json.loads(dsse.emit(envelope))


def compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_an_envelope_emits_the_bytes_it_was_parsed_from_and_verifies():
    envelope = both()
    parsed = dsse.parse(dsse.emit(envelope))
    assert parsed == envelope
    assert dsse.verify(parsed, KEYS) == ("one", "two")


def test_pae_is_the_one_of_the_protocol():
    # The example of the DSSE protocol text.
    assert pae_of("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae_of("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def pae_of(kind: str, payload: bytes) -> bytes:
    ours = dsse.pae(kind, payload)
    assert ours == RefereeEnvelope(payload, kind, {}).pae()
    return ours


def referee_key(key, name: str) -> SSlibKey:
    return SSlibKey.from_crypto(key.public_key(), keyid=name)


def test_the_referee_verifies_what_we_emit():
    envelope = RefereeEnvelope.from_dict(tree(both()))
    accepted = envelope.verify([referee_key(KEY, "one"), referee_key(OTHER, "two")], 2)
    assert sorted(accepted) == ["one", "two"]


def test_we_verify_what_the_referee_signs_once_it_is_in_canonical_form():
    made = RefereeEnvelope(b"payload", TYPE, {})
    made.sign(CryptoSigner(KEY, referee_key(KEY, "one")))
    as_json = json.dumps(made.to_dict()).encode()
    with pytest.raises(Malformed) as refusal:
        dsse.parse(as_json)
    assert refusal.value.rule == "dsse/canonical"
    assert dsse.verify(dsse.parse(compact(made.to_dict())), KEYS) == ("one",)


def test_one_key_under_two_ids_counts_once_for_us_and_twice_for_the_referee():
    doubled = dsse.sign(TYPE, b"act", {"one": signer_of(KEY), "alias": signer_of(KEY)})
    keys = [referee_key(KEY, "one"), referee_key(KEY, "alias")]
    assert len(RefereeEnvelope.from_dict(tree(doubled)).verify(keys, 2)) == 2
    with pytest.raises(Malformed) as refusal:
        dsse.verify(doubled, {"one": spki_of(KEY), "alias": spki_of(KEY)})
    assert refusal.value.rule == "dsse/key-twice"


def test_one_key_in_two_encodings_under_two_ids_is_one_key():
    compressed = bytes.fromhex(
        "3039301306072a8648ce3d020106082a8648ce3d030107032200"
    ) + KEY.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    doubled = dsse.sign(TYPE, b"act", {"one": signer_of(KEY), "alias": signer_of(KEY)})
    with pytest.raises(Malformed) as refusal:
        dsse.verify(doubled, {"one": spki_of(KEY), "alias": compressed})
    assert refusal.value.rule == "dsse/key-twice"


def test_unknown_fields_that_the_referee_ignores_are_refused():
    value = tree(both())
    value["comment"] = "ignored elsewhere"
    assert RefereeEnvelope.from_dict(json.loads(json.dumps(value))).payload_type == TYPE
    with pytest.raises(Malformed) as refusal:
        dsse.parse(compact(value))
    assert refusal.value.rule == "dsse/fields"


def test_a_good_and_a_bad_signature_are_refused_together():
    good, _ = both().signatures
    bad = dsse.Signature("two", signer_of(OTHER)(b"something else"))
    with pytest.raises(Forbidden) as refusal:
        dsse.verify(dsse.Envelope(TYPE, b"\x00statement\xff", (good, bad)), KEYS)
    assert refusal.value.rule == "dsse/signature"


def test_a_signature_by_a_key_nobody_named_is_refused():
    with pytest.raises(Forbidden) as refusal:
        dsse.verify(both(), {"one": spki_of(KEY)})
    assert refusal.value.rule == "dsse/unknown-key"


def test_a_signature_is_bound_to_type_and_payload():
    envelope = both()
    for other in (
        dsse.Envelope(TYPE + "x", envelope.payload, envelope.signatures),
        dsse.Envelope(TYPE, envelope.payload + b"x", envelope.signatures),
    ):
        with pytest.raises(Forbidden):
            dsse.verify(other, KEYS)


def test_ids_may_not_be_swapped_between_keys():
    with pytest.raises(Forbidden):
        dsse.verify(both(), {"one": KEYS["two"], "two": KEYS["one"]})


def test_an_envelope_built_with_the_same_id_twice_does_not_verify():
    first = both().signatures[0]
    with pytest.raises(Forbidden) as refusal:
        dsse.verify(dsse.Envelope(TYPE, b"\x00statement\xff", (first, first)), KEYS)
    assert refusal.value.rule == "dsse/signer-twice"


def test_an_envelope_without_signatures_never_verifies():
    with pytest.raises(Forbidden):
        dsse.verify(dsse.Envelope(TYPE, b"", ()), KEYS)


def test_ber_and_plain_signatures_do_not_verify():
    der = both().signatures[0].signature
    body = der[2:]
    long_form = b"\x30\x81" + bytes([len(body)]) + body
    for signature in (long_form[:72], der + b"\x00", bytes(64), der[:-1]):
        with pytest.raises(Forbidden):
            dsse.verify(
                dsse.Envelope(TYPE, b"\x00statement\xff", (dsse.Signature("one", signature),)),
                {"one": KEYS["one"]},
            )


@pytest.mark.parametrize(
    "spki",
    [
        b"",
        b"\x30\x00",
        spki_of(ec.generate_private_key(ec.SECP384R1())),
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "an empty sequence", "P-384", "Ed25519"],
)
def test_only_p256_keys_are_keys(spki):
    with pytest.raises(Malformed) as refusal:
        dsse.verify(both(), {**KEYS, "three": spki})
    assert refusal.value.rule == "dsse/key"


def altered(**changes) -> bytes:
    return compact(tree(both()) | changes)


def signature_with(**changes) -> bytes:
    value = tree(both())
    value["signatures"][0] |= changes
    return compact(value)


def without(name: str) -> bytes:
    value = tree(both())
    del value[name]
    return compact(value)


CANONICAL = dsse.emit(both())

REFUSED = {
    "empty": b"",
    "not json": b"{",
    "array": b"[]",
    "array of the field names": b'["payload","payloadType","signatures"]',
    "signature an array of the field names": altered(signatures=[["keyid", "sig"]]),
    "payload not ascii": altered(payload="AAA\u00e9"),
    "sig not ascii": altered(signatures=[{"keyid": "one", "sig": "AAA\u00e9"}]),
    "null": b"null",
    "number": b"1",
    "no payload": without("payload"),
    "no type": without("payloadType"),
    "no signatures": without("signatures"),
    "payload null": altered(payload=None),
    "payload number": altered(payload=1),
    "payload bytes list": altered(payload=[1, 2]),
    "type null": altered(payloadType=None),
    "type empty": altered(payloadType=""),
    "type too long": altered(payloadType="t" * 201),
    "type newline": altered(payloadType="a\nb"),
    "type not ascii": altered(payloadType="é"),
    "signatures null": altered(signatures=None),
    "signatures object": altered(signatures={}),
    "signatures empty": altered(signatures=[]),
    "signature a string": altered(signatures=["x"]),
    "signature without keyid": altered(signatures=[{"sig": "AAAA"}]),
    "signature without sig": altered(signatures=[{"keyid": "one"}]),
    "signature extra field": signature_with(cert="x"),
    "keyid null": signature_with(keyid=None),
    "keyid empty": signature_with(keyid=""),
    "keyid too long": signature_with(keyid="k" * 201),
    "keyid twice": signature_with(keyid="two"),
    "sig empty": signature_with(sig=""),
    "sig hex": signature_with(sig="zz"),
    "sig too long": signature_with(sig=base64.b64encode(bytes(73)).decode()),
    "seventeen": altered(signatures=[{"keyid": f"k{n}", "sig": "AAAA"} for n in range(17)]),
    "payload url-safe": altered(payload="_-8="),
    "payload unpadded": altered(payload="AAA"),
    "payload with white space": altered(payload="AA\nAA"),
    "payload with loose bits": altered(payload="AAB="),
    "leading space": b" " + CANONICAL,
    "trailing newline": CANONICAL + b"\n",
    "bom": b"\xef\xbb\xbf" + CANONICAL,
    "pretty": json.dumps(json.loads(CANONICAL), sort_keys=True, indent=1).encode(),
    "unsorted": json.dumps(dict(reversed(json.loads(CANONICAL).items())), separators=(",", ":")).encode(),
    "escaped": CANONICAL.replace(b'"one"', b'"\\u006fne"'),
    "duplicate key": CANONICAL[:-1] + b',"payloadType":"' + TYPE.encode() + b'"}',
    "duplicate first key": b'{"payload":"AAAA",' + CANONICAL[1:],
    "second value": CANONICAL + CANONICAL,
    "deep": b"[" * 5000,
    "huge": b'{"payload":"' + b"A" * dsse.ENVELOPE_OCTETS + b'"}',
    "invalid utf-8": CANONICAL.replace(b"one", b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_malformed(name):
    with pytest.raises(Malformed) as refusal:
        dsse.parse(REFUSED[name])
    assert refusal.value.rule.startswith("dsse/")


def test_the_size_bound_has_two_sides():
    for extra, rule in ((0, "dsse/json"), (1, "dsse/size")):
        with pytest.raises(Malformed) as refusal:
            dsse.parse(b"x" * (dsse.ENVELOPE_OCTETS + extra))
        assert refusal.value.rule == rule


def test_sixteen_signatures_and_texts_of_two_hundred_characters_are_the_last_accepted():
    value = {
        "payload": "",
        "payloadType": "t" * 200,
        "signatures": [
            {"keyid": f"{n:0200d}", "sig": base64.b64encode(bytes(72)).decode()} for n in range(16)
        ],
    }
    assert len(dsse.parse(compact(value)).signatures) == 16


def test_sign_refuses_what_could_not_be_parsed():
    for kind, signers in ((TYPE, {}), ("", {"one": signer_of(KEY)}), (TYPE, {"": signer_of(KEY)})):
        with pytest.raises(Malformed):
            dsse.sign(kind, b"", signers)


def test_key_id_is_the_digest_of_the_spki():
    import hashlib

    assert dsse.key_id(KEYS["one"]) == hashlib.sha256(KEYS["one"]).hexdigest()
