"""The registers change under the rules of the Code: G4.7, G4.8, G2.22B(d), G2.24 hold when a record is registered."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.acts.base import require_parameters
from cryptosvc.core.acts.table import ACTS
from cryptosvc.core.custodian import (
    AdditionalControl,
    CustodianRecord,
    Engagement,
    Privilege,
    Side,
    custodian_document,
)
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Conflict, Forbidden, Malformed, Refusal
from cryptosvc.core.life import DAY
from cryptosvc.core.names import SystemName
from cryptosvc.core.registry import KeyState
from tests.govern_stand import Stand
from tests.governance import GOVERNANCE, NOW, SYSTEM, Room, person

OTHER = SystemName("other-system")
PAIR = (SYSTEM, OTHER)
FAY = person("fay").record


async def stand(rules: Rules | None = None) -> Stand:
    governance = replace(GOVERNANCE, custody=rules or Rules())
    return await Stand(governance=governance).begin()


async def refused(here: Stand, record: CustodianRecord, act: str = "custodian.register") -> Refusal:
    """What proposing it is refused with: nobody is asked to approve what cannot be."""
    statement = here.statement(act, record.custodian_id, record=custodian_document(record))
    with pytest.raises(Refusal) as refusal:
        await here.propose(statement)
    assert ("custodian-record", "fay") not in here.ledger.records
    return refusal.value


async def test_nobody_is_made_a_privileged_person_without_a_security_check():
    here = await stand()
    for unchecked in (
        replace(FAY, security_check_on=None),
        replace(FAY, security_check_on=NOW + DAY),
    ):
        found = await refused(here, unchecked)
        assert (found.rule, found.clause) == ("custody/security-check", "G4.7")
    unprivileged = replace(FAY, security_check_on=None, privileges=())
    await here.carry("custodian.register", "fay", record=custodian_document(unprivileged))
    assert here.ledger.records["custodian-record", "fay"] == unprivileged


async def test_where_no_security_check_is_asked_none_is_needed_and_replay_agrees():
    here = await stand(Rules(security_check=False))
    unchecked = replace(FAY, security_check_on=None)
    await here.carry("custodian.register", "fay", record=custodian_document(unchecked))
    assert here.replay().records == here.ledger.records


def both(first_until: int | None, second_since: int) -> CustodianRecord:
    """Privileged on two systems, one after the other or together."""
    return replace(
        FAY,
        privileges=(
            Privilege(SYSTEM, NOW - 300 * DAY, first_until),
            Privilege(OTHER, second_since, None),
        ),
    )


async def test_separated_systems_need_additional_controls_that_are_named():
    here = await stand(Rules(separated=frozenset({tuple(sorted(PAIR))})))  # type: ignore[arg-type]  # a pair, sorted
    together = both(None, NOW - DAY)
    found = await refused(here, together)
    assert (found.rule, found.clause) == ("custody/separated-systems", "G4.8(a)")
    first, second = sorted(PAIR)
    controlled = replace(
        together, additional_controls=(AdditionalControl((first, second), "two people at every session"),)
    )
    await here.carry("custodian.register", "fay", record=custodian_document(controlled))
    assert here.ledger.records["custodian-record", "fay"] == controlled


async def test_relevant_systems_lie_six_months_apart_whatever_controls_are_named():
    here = await stand(Rules(relevant=frozenset({tuple(sorted(PAIR))})))  # type: ignore[arg-type]  # a pair, sorted
    first, second = sorted(PAIR)
    named = (AdditionalControl((first, second), "a good reason"),)
    for record in (both(None, NOW), replace(both(NOW - 100 * DAY, NOW), additional_controls=named)):
        found = await refused(here, record)
        assert (found.rule, found.clause) == ("custody/six-months", "G2.22B(d)")
    await here.carry("custodian.register", "fay", record=custodian_document(both(NOW - 190 * DAY, NOW)))


async def test_engagements_on_both_sides_lie_apart():
    here = await stand()
    found = await refused(
        here,
        replace(
            FAY,
            engagements=(
                Engagement(Side.DCC, NOW - 400 * DAY, NOW - 100 * DAY),
                Engagement(Side.USER, NOW - 50 * DAY, None),
            ),
        ),
    )
    assert (found.rule, found.clause) == ("custody/engagement", "G2.24")


async def test_a_person_and_a_key_stand_in_the_register_once():
    here = await stand()
    ada = here.person("ada").record
    assert (await refused(here, replace(FAY, person=ada.person))).rule == "custody/person-twice"
    found = await refused(here, replace(FAY, key=ada.key))
    assert found.rule == "custody/key-twice"
    assert isinstance(found, Conflict)


async def test_one_key_has_one_encoding():
    here = await stand()
    key = here.person("ada").key.public_key()
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + key.public_bytes(
        Encoding.X962, PublicFormat.CompressedPoint
    )
    other_curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    for wrong in (
        compressed,
        b"",
        b"\x30\x00",
        other_curve.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        assert (await refused(here, replace(FAY, key=wrong))).rule == "custody/key"


def certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=9))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


async def test_a_certificate_is_over_the_key_that_is_registered():
    here = await stand()
    fay = person("fay")
    for wrong in (certificate(ec.generate_private_key(ec.SECP256R1())), b"no certificate"):
        assert (await refused(here, replace(fay.record, certificate=wrong))).rule == "custody/certificate"
    right = replace(fay.record, certificate=certificate(fay.key))
    await here.carry("custodian.register", "fay", record=custodian_document(right))


async def test_history_is_not_rewritten_by_a_change():
    here = await stand()
    ben = here.person("ben").record
    for shorter in (
        replace(ben, version=2, privileges=()),
        replace(ben, version=2, privileges=(Privilege(SYSTEM, NOW - 300 * DAY, NOW - 100 * DAY),)),
        replace(ben, version=2, privileges=(Privilege(SYSTEM, NOW - 10 * DAY, None),)),
    ):
        assert (await refused(here, shorter, "custodian.change")).rule == "custody/history"
    another = replace(ben, version=2, person="person-dan-2")
    assert (await refused(here, another, "custodian.change")).rule == "custody/person"


async def test_a_record_is_of_its_subject_and_one_version_on():
    here = await stand()
    statement = here.statement("custodian.register", "gus", record=custodian_document(FAY))
    with pytest.raises(Malformed) as malformed:
        await here.propose(statement)
    assert malformed.value.rule == "statement/record"
    ahead = here.statement("custodian.register", "fay", record=custodian_document(replace(FAY, version=2)))
    with pytest.raises(Malformed) as malformed:
        await here.propose(ahead)
    assert malformed.value.rule == "statement/record"


async def test_a_key_is_active_only_within_its_crypto_period():
    here = await stand()
    await here.ordered("key-1")
    for until in (NOW, NOW - DAY, NOW + 20_000 * DAY):
        with pytest.raises(Forbidden) as period:
            await here.propose(here.statement("key.activate", "key-1", until=until))
        assert period.value.rule == "lifecycle/crypto-period"


async def test_only_an_active_key_of_the_class_takes_anothers_place():
    here = await stand()
    await here.active("key-1")
    await here.ordered("key-2")
    await here.ordered("key-3", "xml-signing")
    await here.carry("key.activate", "key-3")
    for name in ("key-2", "key-3", "key-1", "nothing"):
        with pytest.raises(Forbidden) as successor:
            await here.propose(here.statement("key.supersede", "key-1", by=name))
        assert successor.value.rule == "lifecycle/successor"
    assert here.key("key-1").state is KeyState.ACTIVE


SAMPLES: Mapping[str, object] = {"text": "words", "id": "key-2", "date": 5, "number": 7, "yes or no": True}


@pytest.mark.parametrize("name", sorted(ACTS))
def test_every_act_says_what_it_does_and_refuses_what_it_lacks(name: str):
    act = ACTS[name]
    given = {
        one.name: {"hex": "00ff", "document": {"a": 1}}.get(one.kind.value, SAMPLES.get(one.kind.value))
        for one in act.parameters
        if one.required
    }
    statement = replace(Room().statement(name, "key-1", 1), parameters=given)
    require_parameters(act, statement)
    sentence = act.sentence(statement)
    assert "key-1" in sentence
    assert "{" not in sentence
    for lacking in given:
        less = {one: value for one, value in given.items() if one != lacking}
        with pytest.raises(Malformed) as refusal:
            require_parameters(act, replace(statement, parameters=less))
        assert refusal.value.rule == "statement/parameters"
        assert repr(lacking) in refusal.value.message
