"""Judge: four rules in order, the ceiling before any policy. Check: what does not verify never leaves."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cryptosvc.core.case import Case, PolicyAnswer
from cryptosvc.core.check import check, verify_p256
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, WrongState
from cryptosvc.core.judge import judge
from cryptosvc.core.names import ContentKind, Eui64, Operation, UnixNanoseconds
from cryptosvc.core.record import Claim, Produced
from cryptosvc.core.registry import KeyState
from tests import certificates, duis_documents
from tests.corridor import ALLOWED, PRIVATE, SUPPLIER_KEY, Corridor, duis_request, pre_command_request

OF_COMMAND_SIGNING = {ContentKind.GBCS_PRE_COMMAND, ContentKind.CERTIFICATION_REQUEST}
REFUSED = PolicyAnswer(
    allowed=False, policies=("p9",), clauses=("G2.20", "G4.8"), text="not you", digest="d" * 64
)


async def a_case(request=None, corridor: Corridor | None = None) -> tuple[Case, Corridor]:
    corridor = corridor or Corridor()
    request = request or pre_command_request()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    return case, corridor


async def test_a_permitted_case_keeps_the_clause_of_the_ceiling_and_the_policies():
    case, corridor = await a_case()
    authorised = judge(case, ALLOWED, corridor.profiles)
    assert authorised.case is case
    assert (authorised.clause, authorised.policies, authorised.policy_digest) == (
        "G2.56",
        ("p1", "p2"),
        "d" * 64,
    )


@pytest.mark.parametrize(
    "key_class", ["root-oca", "issuing-oca", "xml-signing", "audit-signing", "log-authentication"]
)
async def test_the_ceiling_holds_whatever_policy_answers(key_class):
    case, corridor = await a_case()
    wide = replace(case, facts=replace(case.facts, key_class=key_class))
    with pytest.raises(Forbidden) as refusal:
        judge(wide, ALLOWED, corridor.profiles)
    assert refusal.value.rule == "ceiling/purpose"


@pytest.mark.parametrize("kind", sorted(set(ContentKind) - OF_COMMAND_SIGNING))
async def test_the_ceiling_goes_by_the_content_kind(kind):
    case, corridor = await a_case()
    wide = replace(case, facts=replace(case.facts, content_kind=kind))
    with pytest.raises(Forbidden):
        judge(wide, ALLOWED, corridor.profiles)


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ACTIVE])
async def test_the_state_holds_whatever_policy_answers(state):
    case, corridor = await a_case()
    with pytest.raises(WrongState):
        judge(replace(case, facts=replace(case.facts, state=state)), ALLOWED, corridor.profiles)


async def test_the_content_is_for_this_very_key_whatever_policy_answers():
    case, corridor = await a_case()
    stranger = replace(case, key=replace(case.key, eui64=Eui64.parse(duis_documents.STRANGER)))
    with pytest.raises(Forbidden):
        judge(stranger, ALLOWED, corridor.profiles)


async def test_what_contradicts_the_bytes_is_malformed():
    case, corridor = await a_case()
    wrong = replace(case.request, statement=replace(case.request.statement, service_reference_variant="7.1"))
    with pytest.raises(Malformed):
        judge(replace(case, request=wrong), ALLOWED, corridor.profiles)


async def test_a_policy_refusal_names_clause_policies_and_text():
    case, corridor = await a_case()
    with pytest.raises(Forbidden) as refusal:
        judge(case, REFUSED, corridor.profiles)
    error = refusal.value
    assert (str(error), error.clause, error.policies, error.rule) == (
        "not you",
        "G2.20",
        ("p9",),
        "policy/refused",
    )
    with pytest.raises(Forbidden) as refusal:
        judge(case, replace(REFUSED, policies=(), clauses=(), text=""), corridor.profiles)
    assert str(refusal.value) == "no policy permits this"


async def test_purpose_is_refused_before_state_and_state_before_policy():
    case, corridor = await a_case()
    all_wrong = replace(case, facts=replace(case.facts, key_class="root-oca", state=KeyState.SUSPENDED))
    with pytest.raises(Forbidden) as refusal:
        judge(all_wrong, REFUSED, corridor.profiles)
    assert refusal.value.clause == "G2.60"
    with pytest.raises(WrongState):
        judge(replace(case, facts=replace(case.facts, state=KeyState.SUSPENDED)), REFUSED, corridor.profiles)


# --- check -----------------------------------------------------------------------------------------------------------


def raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


KEY = certificates.key_pair("check")
POINT = certificates.point_of(KEY.public_key())
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_a_good_signature_passes_with_low_and_with_high_s():
    good = raw(KEY, b"m")
    r, s = good[:32], int.from_bytes(good[32:])
    verify_p256(POINT, good, b"m")
    verify_p256(POINT, r + (ORDER - s).to_bytes(32), b"m")


@pytest.mark.parametrize("bit", range(0, 512, 5))
def test_every_flipped_bit_is_corrupt(bit):
    good = bytearray(raw(KEY, b"m"))
    good[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt) as corrupt:
        verify_p256(POINT, bytes(good), b"m")
    assert corrupt.value.rule == "check/signature"


@pytest.mark.parametrize("size", [0, 1, 63, 65, 70, 71, 72, 128])
def test_a_signature_has_64_octets(size):
    with pytest.raises(Corrupt):
        verify_p256(POINT, (raw(KEY, b"m") * 2)[:size], b"m")


@pytest.mark.parametrize(
    ("r", "s"), [(0, 0), (0, 1), (1, 0), (ORDER, 1), (1, ORDER), (2**256 - 1, 2**256 - 1)]
)
def test_degenerate_values_are_corrupt(r, s):
    with pytest.raises(Corrupt):
        verify_p256(POINT, r.to_bytes(32) + s.to_bytes(32), b"m")


def test_a_good_signature_over_other_bytes_or_by_another_key_is_corrupt():
    with pytest.raises(Corrupt):
        verify_p256(POINT, raw(KEY, b"m"), b"n")
    with pytest.raises(Corrupt):
        verify_p256(POINT, raw(certificates.key_pair("another"), b"m"), b"m")


@pytest.mark.parametrize("request_", [pre_command_request(), duis_request()], ids=["gbcs", "duis"])
async def test_the_artefact_is_assembled_and_digested(request_):
    case, corridor = await a_case(request_)
    claim = Claim(judge(case, ALLOWED, corridor.profiles), "c", UnixNanoseconds(0))
    signature = raw(PRIVATE[case.key.key_id], case.content.signed_bytes)
    checked = check(Produced(claim, signature))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(checked.artefact)
    assert checked.digest == digest.finalize()
    assert (checked.claim, checked.signature) == (claim, signature)
    assert signature in checked.artefact or request_.form.value == "duis_document"


async def test_a_signature_by_another_key_of_the_same_caller_is_corrupt():
    case, corridor = await a_case()
    assert case.key.key_id == SUPPLIER_KEY
    claim = Claim(judge(case, ALLOWED, corridor.profiles), "c", UnixNanoseconds(0))
    with pytest.raises(Corrupt):
        check(Produced(claim, raw(certificates.key_pair("another"), case.content.signed_bytes)))
