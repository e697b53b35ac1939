"""What was made, as our parsers and as pyca read it; who proposes and approves; papers that are never replaced."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Present
from cryptosvc.core.ceremony.rows import Role
from cryptosvc.core.content.x509 import certificate, crl, csr, signed
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.custodian import CustodianState
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed, Unavailable
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import Eui64, SystemName
from cryptosvc.wiring.ceremony import papers, said, seen
from cryptosvc.wiring.ceremony.people import HeldKey, Room, controllers
from cryptosvc.wiring.ceremony.rehearsal import register
from cryptosvc.wiring.ceremony.shelf import FILES, PAPERS, Shelf, TranscriptFile
from tests.certificates import key_pair, point_of

PROFILE = X509Profile()
AT = UnixSeconds(1_800_000_000)
ENTITY = Eui64.parse("90-B3-D5-1F-30-01-00-00")
ROOT, ISSUING, COMMANDS = (
    key_pair("ceremony root"),
    key_pair("ceremony issuing"),
    key_pair("ceremony commands"),
)


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return point_of(key.public_key())


def finished(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    r, s = decode_dss_signature(key.sign(payload, ec.ECDSA(hashes.SHA256())))
    return signed.finished(payload, r.to_bytes(32) + s.to_bytes(32))


def root() -> bytes:
    tbs = papers.root_certificate(point(ROOT), "Root OCA 1", 18_263, AT, PROFILE)
    certificate.parse(tbs, PROFILE)
    return finished(tbs, ROOT)


def request(key: ec.EllipticCurvePrivateKey, *, is_oca: bool) -> bytes:
    name = (
        papers.oca_name(7, "Issuing OCA 1")
        if is_oca
        else papers.organisation_name(5, ENTITY, "DCC CoS Party")
    )
    info = papers.request(point(key), name, is_oca=is_oca)
    csr.parse(info, PROFILE)
    return finished(info, key)


def issuing() -> bytes:
    asked = request(ISSUING, is_oca=True)
    tbs = papers.issued_certificate(root(), asked, 9132, AT, PROFILE, is_oca=True)
    certificate.parse(tbs, PROFILE)
    return finished(tbs, ROOT)


def test_both_readings_of_every_paper_agree() -> None:
    organisation = papers.issued_certificate(
        issuing(), request(COMMANDS, is_oca=False), 3653, AT, PROFILE, is_oca=False
    )
    certificate.parse(organisation, PROFILE)
    for made, issuer in (
        (root(), ROOT),
        (issuing(), ROOT),
        (finished(organisation, ISSUING), ISSUING),
    ):
        assert said.of_certificate(made) == seen.of_certificate(made, point(issuer))
    for key, is_oca in ((ISSUING, True), (COMMANDS, False)):
        made = request(key, is_oca=is_oca)
        assert said.of_request(made, PROFILE) == seen.of_request(made)
        assert seen.of_request(made)["public_key"] == point(key).hex()
    revoked = [papers.Revocation(7, UnixSeconds(AT - 60), 2), papers.Revocation(9, AT, 5)]
    for issuer, key, is_arl, entries in ((root(), ROOT, True, revoked), (issuing(), ISSUING, False, [])):
        tbs = papers.revocation_list(issuer, 5, 1, AT, entries, is_arl=is_arl)
        crl.parse(tbs, PROFILE)
        made = finished(tbs, key)
        assert said.of_list(made) == seen.of_list(made, point(key))
        assert seen.of_list(made, point(key))["entries"] == len(entries)
        assert papers.listed(made) == tuple(entries)


def test_what_a_ceremony_file_expects_is_what_is_found() -> None:
    facts = seen.of_certificate(issuing(), point(ROOT))
    assert (facts["path_length"], facts["remote_party_role"], facts["validity_days"]) == (0, 7, 9132)
    assert facts["key_usage"] == ["cRLSign", "keyCertSign"]
    assert facts["critical_extensions"] == ["basicConstraints", "certificatePolicies", "keyUsage"]


def test_the_second_look_believes_no_signature_but_the_issuers() -> None:
    with pytest.raises(Corrupt) as raised:
        seen.of_certificate(issuing(), point(ISSUING))
    assert raised.value.rule == "ceremony/signature"
    listed = papers.revocation_list(root(), 5, 1, AT, [], is_arl=True)
    with pytest.raises(Corrupt):
        seen.of_list(finished(listed, ISSUING), point(ROOT))
    with pytest.raises(Corrupt):
        seen.of_request(
            finished(papers.request(point(COMMANDS), papers.oca_name(7, "X"), is_oca=True), ISSUING)
        )


def test_a_request_that_its_key_did_not_sign_gets_no_certificate() -> None:
    name = papers.organisation_name(5, ENTITY, "Somebody else")
    forged = finished(papers.request(point(COMMANDS), name, is_oca=False), ISSUING)
    with pytest.raises(Corrupt) as raised:
        papers.issued_certificate(issuing(), forged, 3653, AT, PROFILE, is_oca=False)
    assert raised.value.rule == "ceremony/request"


def room(*people: tuple[str, Role]) -> Room:
    keys = {name: HeldKey(key_pair(f"person {name}")) for name, _ in people}
    present = tuple(
        Present(person=name, roles=(role,), key_id=dsse.key_id(keys[name].spki)) for name, role in people
    )
    return Room(present, keys)


def registered(there: Room) -> dict:
    records = register(there, SystemName("dcc-oca"), Rules(), AT)
    return {one.custodian_id: one for one in records}


def test_the_administrator_proposes_and_the_custodians_approve() -> None:
    there = room(
        ("wim", Role.WITNESS),
        ("carl", Role.CUSTODIAN),
        ("olga", Role.OPERATOR),
        ("cleo", Role.CUSTODIAN),
        ("ada", Role.ADMINISTRATOR),
    )
    register_of_all = registered(there)
    found = controllers(there, register_of_all)
    assert (found.proposer, found.approvers) == ("ada", ("carl", "cleo"))
    without = {name: one for name, one in register_of_all.items() if name != "ada"}
    assert controllers(there, without).proposer == "olga"
    of_custodians = {name: one for name, one in without.items() if name != "olga"}
    assert controllers(there, of_custodians) == type(found)("cleo", ("carl",))


@pytest.mark.parametrize("what", ["unknown", "removed", "another key"])
def test_a_custodian_who_is_not_in_the_register_with_the_key_that_is_here_is_refused(what: str) -> None:
    there = room(("ada", Role.ADMINISTRATOR), ("carl", Role.CUSTODIAN))
    known = registered(there)
    if what == "unknown":
        del known["carl"]
    elif what == "removed":
        known["carl"] = replace(known["carl"], state=CustodianState.REMOVED)
    else:
        known["carl"] = replace(known["carl"], key=known["ada"].key)
    with pytest.raises(Forbidden) as raised:
        controllers(there, known)
    assert (raised.value.rule, raised.value.clause) == ("ceremony/register", "G4.7")


def test_a_room_signs_for_one_and_for_all() -> None:
    there = room(("ada", Role.ADMINISTRATOR), ("carl", Role.CUSTODIAN))
    keys = {one.key_id: there.keys[one.person].spki for one in there.present}
    assert dsse.verify(dsse.parse(there.sign("carl", "t", b"x")), keys) == (there.present[1].key_id,)
    assert set(dsse.verify(there.sign_all("t", b"x"), keys)) == set(keys)


def test_a_paper_is_put_once_and_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "office")
    shelf.put(PAPERS, "one", b"octets")
    with pytest.raises(Conflict) as raised:
        shelf.put(PAPERS, "one", b"others")
    assert raised.value.rule == "ceremony/exists"
    assert (shelf.get(PAPERS, "one"), shelf.names(PAPERS)) == (b"octets", ["one"])
    with pytest.raises(Unavailable) as missing:
        shelf.get(FILES, "one")
    assert missing.value.rule == "ceremony/no-file"
    for name in ("..", ".hidden"):
        with pytest.raises(Malformed):
            shelf.has(FILES, name)


def test_half_a_line_was_never_written(tmp_path: Path) -> None:
    pages = TranscriptFile(tmp_path / "t.jsonl")
    assert pages.read() == b""
    pages.append(b"first")
    with pages.path.open("ab") as file:
        file.write(b"seco")  # a kill in the middle of a line
    assert pages.read() == b"first\n"
    pages.append(b"second")
    assert pages.path.read_bytes() == b"first\nsecond\n"
