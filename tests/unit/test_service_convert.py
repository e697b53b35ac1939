"""Bounds of a request, on both sides; and that nothing but the five forms gets through."""

import pytest

from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import OWN_FORMS, ContentForm, Operation, operation_on
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service import convert

PAYLOAD_OCTETS = 1000


def _message(**changes: object) -> crypto_pb2.SignRequest:
    fields: dict[str, object] = {"request_id": "r1", "key_id": "k1", "tbs_certificate": b"\x30" * 100}
    return crypto_pb2.SignRequest(**(fields | changes))


def _refusal(message: crypto_pb2.SignRequest) -> Malformed:
    with pytest.raises(Malformed) as caught:
        convert.request(message, PAYLOAD_OCTETS)
    return caught.value


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("request_id", ["a", "x" * 64, "with space", "~!"], ["", "x" * 65, "é", "a\n", "a\x00", "\x7f"]),
        ("key_id", ["a", "A.b_c-9", "k" * 64], ["", "k" * 65, "a/b", "a b", "é", "a\n"]),
        ("service_reference_variant", ["", "7.1", "6.18.2"], ["7.1\n", "x" * 17, "7,1"]),
        (
            "user_id",
            ["", "90-B3-D5-1F-30-01-00-00"],
            ["90-b3-d5-1f-30-01-00-00", "90-B3", "90B3D51F30010000"],
        ),
        ("user_role", ["", "IS", "RSA"], ["is", "TOOLONGROLE", "I S"]),
        ("tbs_certificate", [b"1", b"x" * PAYLOAD_OCTETS], [b"", b"x" * (PAYLOAD_OCTETS + 1)]),
        (
            "supply_sensitive_check",
            [b"", b"x" * convert.CHECK_OCTETS_AT_MOST],
            [b"x" * (convert.CHECK_OCTETS_AT_MOST + 1)],
        ),
    ],
)
def test_bounds(field: str, good: list[object], bad: list[object]):
    for value in good:
        convert.request(_message(**{field: value}), PAYLOAD_OCTETS)
    for value in bad:
        assert _refusal(_message(**{field: value})).field == field


DEVICE_KEY = "90-B3-D5-1F-30-01-00-00.encryption"
PLAINTEXT = crypto_pb2.DlmsPlaintext(system_title=b"TITLE..8", invocation_counter=258, text=b"text")
AUTHENTICATION = "90-B3-D5-1F-30-01-00-00.authentication"
DLMS = dict.fromkeys(
    (
        ContentForm.DLMS_AUTHENTICATED_ENCRYPTION,
        ContentForm.DLMS_ENCRYPTION,
        ContentForm.DLMS_AUTHENTICATION,
        ContentForm.DLMS_CHALLENGE,
    ),
    (PLAINTEXT, b"TITLE..8\x00\x00\x01\x02text", AUTHENTICATION),
) | {
    ContentForm.DLMS_PROTECTED: (
        crypto_pb2.DlmsProtected(system_title=b"TITLE..8", apdu=b"apdu", authentication_key_version=3),
        b"TITLE..8apdu",
        f"{AUTHENTICATION}.3",
    ),
    ContentForm.DLMS_KEY_CHANGE: (
        crypto_pb2.DlmsKeyChange(kind="hls-secret", version=2),
        b"hls-secret.2",
        "90-B3-D5-1F-30-01-00-00.hls-secret.2",
    ),
    ContentForm.DLMS_ASSOCIATION: (
        crypto_pb2.DlmsInitiate(system_title=b"TITLE..8", invocation_counter=258, initiate_request=b"plain"),
        b"TITLE..8\x00\x00\x01\x02plain",
        AUTHENTICATION,
    ),
}
"""What is asked of SMETS1 Devices' keys: the message, the octets core reads, the second key."""


@pytest.mark.parametrize(
    ("message", "key_id", "rule"),
    [
        (crypto_pb2.DlmsPlaintext(system_title=b"TITLE.7", text=b"text"), DEVICE_KEY, "dlms/system-title"),
        (crypto_pb2.DlmsPlaintext(system_title=b"TITLE...9", text=b"text"), DEVICE_KEY, "dlms/system-title"),
        (PLAINTEXT, "supplier-ds", "device-key/name"),
        (PLAINTEXT, "", "device-key/name"),
    ],
)
def test_what_names_no_device_is_malformed(message, key_id: str, rule: str):
    request = crypto_pb2.SignRequest(request_id="r", key_id=key_id, dlms_encryption=message)
    with pytest.raises(Malformed) as caught:
        convert.request(request, PAYLOAD_OCTETS, Operation.ENCRYPT)
    assert caught.value.rule == rule


DEDICATED = "90-B3-D5-1F-30-01-00-00.dedicated"


@pytest.mark.parametrize(
    ("key_id", "association", "rule"),
    [
        (DEDICATED, b"", "association/missing"),
        (DEVICE_KEY, b"seal", "association/unasked"),
        (DEDICATED, bytes(2049), "association/seal"),
    ],
)
def test_an_association_stands_beside_a_dedicated_key_alone(key_id: str, association: bytes, rule: str):
    plain = crypto_pb2.DlmsPlaintext(system_title=b"TITLE..8", text=b"text", association=association)
    sent = crypto_pb2.DlmsProtected(system_title=b"TITLE..8", apdu=b"apdu", association=association)
    for name, message in (("dlms_encryption", plain), ("dlms_protected", sent)):
        request = crypto_pb2.SignRequest(request_id="r", key_id=key_id, **{name: message})
        with pytest.raises(Malformed) as caught:
            convert.request(request, PAYLOAD_OCTETS, Operation.EXPLAIN)
        assert (caught.value.rule, caught.value.field) == (rule, "association")


@pytest.mark.parametrize(("kind", "version"), [("", 1), ("Encryption", 1), ("a.b", 1), ("encryption", 10**9)])
def test_a_new_key_that_can_have_no_such_name_is_malformed(kind: str, version: int):
    change = crypto_pb2.DlmsKeyChange(kind=kind, version=version)
    request = crypto_pb2.SignRequest(request_id="r", key_id=DEVICE_KEY, dlms_key_change=change)
    with pytest.raises(Malformed) as caught:
        convert.request(request, PAYLOAD_OCTETS, Operation.WRAP)
    assert caught.value.rule == "device-key/name"


@pytest.mark.parametrize("form", [form for form in ContentForm if form not in OWN_FORMS])
def test_each_form_is_what_its_field_says(form: ContentForm):
    content, payload, second = DLMS.get(form, (b"payload", b"payload", ""))
    message = crypto_pb2.SignRequest(request_id="r", key_id=DEVICE_KEY, **{form.value: content})
    request = convert.request(message, PAYLOAD_OCTETS, operation_on(form))
    assert (request.form, request.payload, request.second_key) == (form, payload, second)
    assert convert.request(message, PAYLOAD_OCTETS, Operation.EXPLAIN) == request


@pytest.mark.parametrize("form", [form for form in ContentForm if form not in OWN_FORMS])
def test_each_form_goes_to_its_own_method_and_to_no_other(form: ContentForm):
    content = DLMS.get(form, (b"payload",))[0]
    message = crypto_pb2.SignRequest(request_id="r", key_id=DEVICE_KEY, **{form.value: content})
    methods = {
        Operation.SIGN,
        Operation.MAC,
        Operation.VERIFY,
        Operation.DECRYPT,
        Operation.ENCRYPT,
        Operation.WRAP,
    }
    for other in methods - {operation_on(form)}:
        with pytest.raises(Malformed) as caught:
            convert.request(message, PAYLOAD_OCTETS, other)
        assert (caught.value.rule, caught.value.field) == ("request/method", form.value)


@pytest.mark.parametrize("field", ["gbcs_command", "gbcs_message", "encrypted_response", "prepayment_token"])
def test_a_device_certificate_stands_beside_what_is_done_with_its_key_alone(field: str):
    message = crypto_pb2.SignRequest(
        request_id="r", key_id="k", device_certificate=b"der", **{field: b"payload"}
    )
    operation = operation_on(ContentForm(field))
    assert convert.request(message, PAYLOAD_OCTETS, operation).device_certificate == b"der"
    message.device_certificate = bytes(convert.CERTIFICATE_OCTETS_AT_MOST + 1)
    with pytest.raises(Malformed) as caught:
        convert.request(message, PAYLOAD_OCTETS, operation)
    assert caught.value.rule == "request/device-certificate"
    beside = crypto_pb2.SignRequest(
        request_id="r", key_id="k", duis_document=b"payload", device_certificate=b"der"
    )
    with pytest.raises(Malformed) as caught:
        convert.request(beside, PAYLOAD_OCTETS)
    assert caught.value.rule == "request/device-certificate"


def test_the_contract_has_no_field_for_anything_else():
    forms = {field.name for field in crypto_pb2.SignRequest.DESCRIPTOR.oneofs_by_name["content"].fields}
    assert forms == {form.value for form in ContentForm} - {"log_checkpoint", "service_statement"}


def test_a_request_without_content_is_malformed():
    assert _refusal(crypto_pb2.SignRequest(request_id="r", key_id="k")).rule == "request/no-content"


@pytest.mark.parametrize("octets", [20, 28, 32, 48, 64])
@pytest.mark.parametrize(
    ("field", "clause"),
    [("tbs_certificate", "G2.60"), ("gbcs_pre_command", "G2.56"), ("duis_document", "G3.29")],
)
def test_a_bare_digest_is_refused_by_name_whatever_it_is_said_to_be(field: str, clause: str, octets: int):
    message = crypto_pb2.SignRequest(request_id="r", key_id="k", **{field: b"\x01" * octets})
    refusal = _refusal(message)
    assert (refusal.rule, refusal.clause, refusal.field) == ("request/bare-digest", clause, field)


def test_what_does_not_decode_is_malformed():
    with pytest.raises(Malformed):
        convert.parsed(crypto_pb2.SignRequest, b"\xff\xff\xff")


def test_requests_are_counted_without_being_decoded():
    requests = [crypto_pb2.SignRequest(request_id="r" * n, tbs_certificate=b"x" * (n * n)) for n in range(60)]
    octets = crypto_pb2.SignBatchRequest(requests=requests).SerializeToString()
    assert convert.count_items(octets, 60) == 60
    assert convert.count_items(octets, 59) == 60
    assert convert.count_items(b"", 5) == 0
    assert convert.count_items(b"\x0a\x00" * 1_000_000, 256) == 257


@pytest.mark.parametrize(
    "wrong", [b"\x12\x00", b"\x0a", b"\x0a\x05abc", b"\x0a\x00\x12\x00", b"\x0a\xff", b"\xff" * 9]
)
def test_what_is_no_sequence_of_requests_is_not_counted_as_one(wrong: bytes):
    with pytest.raises(Malformed):
        _counted_and_decoded(wrong)


def _counted_and_decoded(octets: bytes) -> None:
    convert.count_items(octets, 60)
    convert.parsed(crypto_pb2.SignBatchRequest, octets)
