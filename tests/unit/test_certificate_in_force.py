"""A key signs while its own certificate is valid, by the second at both ends; and without one where it may."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cryptosvc.core.content.x509.signer import require_in_force
from cryptosvc.core.errors import WrongState
from cryptosvc.core.names import Environment, UnixNanoseconds
from cryptosvc.flow.sign import NotSigned, Signed
from tests import certificates, corridor

SECOND = 1_000_000_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST = FIRST + timedelta(days=10) - timedelta(seconds=1)
ISSUING = certificates.issuing_authority(certificates.root_authority())
PAIR = certificates.key_pair("in force")
KEY = certificates.key_record(
    "command-signing",
    PAIR.public_key(),
    certificates.organisation_certificate(ISSUING, PAIR.public_key(), start=FIRST, days=10),
    role=2,
    entity=certificates.SUPPLIER,
)


@pytest.mark.parametrize("at", [FIRST, LAST])
def test_the_first_and_the_last_second_count(at: datetime):
    require_in_force(KEY, UnixNanoseconds(certificates.nanoseconds(at)))
    require_in_force(KEY, UnixNanoseconds(certificates.nanoseconds(at) + SECOND - 1))


@pytest.mark.parametrize(
    ("at", "rule"),
    [
        (certificates.nanoseconds(FIRST) - 1, "key-certificate/not-yet-valid"),
        (certificates.nanoseconds(LAST) + SECOND, "key-certificate/expired"),
    ],
)
def test_outside_the_key_is_refused_by_rule_and_clause(at: int, rule: str):
    with pytest.raises(WrongState) as caught:
        require_in_force(KEY, UnixNanoseconds(at))
    assert (caught.value.rule, caught.value.clause, caught.value.field) == (rule, "G2.56", "key_id")


def test_no_certificate_has_no_dates():
    require_in_force(replace(KEY, certificate=b"", environment=Environment.TEST), UnixNanoseconds(0))


@pytest.mark.parametrize("which", ["pre-command", "duis"])
async def test_the_corridor_goes_by_the_time_of_the_case(which: str):
    walk = corridor.Corridor()
    pre_command = which == "pre-command"
    key_id = corridor.SUPPLIER_KEY if pre_command else corridor.XML_KEY
    ask = corridor.pre_command_request if pre_command else corridor.duis_request
    (answer,) = await walk.signer.sign(walk.principal, [ask("now")])
    assert isinstance(answer, Signed), answer.error
    assert walk.keys.records[key_id].certificate
    walk.clock.at = certificates.nanoseconds(certificates.AT + timedelta(days=certificates.ORGANISATION_DAYS))
    (answer,) = await walk.signer.sign(walk.principal, [ask("too late")])
    assert isinstance(answer, NotSigned)
    assert (answer.error.rule, bool(answer.error.clause)) == ("key-certificate/expired", True)
