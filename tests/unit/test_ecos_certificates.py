"""Keys that serve purposes which GBCS does not describe: flagged, and after the ECoS Service Live Date not enrolled.

Covers SEC G2.57 (replaced by the end of the certificate), G2.58 (not enrolled any more), G2.59 (save after a recovery).
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from cryptosvc.core.due import REPLACE, coming
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.life import DAY, UnixSeconds
from tests.certificates import AT, ORGANISATION_DAYS
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import GOVERNANCE, NOW, Room
from tests.unit.test_govern_acts import ENTITY, ISSUING, ROOT, certificate_for, oca_key

LIVE = UnixSeconds(NOW - DAY)
"""The Live Date is yesterday: today is the first day on which nothing of the kind is enrolled."""
BEFORE = 60
"""How long before now the log began, in seconds."""
ENDS = int((AT + timedelta(days=ORGANISATION_DAYS)).timestamp()) - 1
"""The last second in which the certificate is valid."""


async def stand(live: UnixSeconds | None) -> Stand:
    """A deployment with a key that waits for its certificate."""
    records = (oca_key("root-oca", ROOT), oca_key("issuing-oca", ISSUING))
    room = Room(now=UnixSeconds(NOW - BEFORE))
    governance = replace(GOVERNANCE, ecos_service_live=live)
    here = await Stand(records=records, governance=governance, room=room).begin()
    here.later(BEFORE)
    await here.ordered("key-1", role=2, eui64=ENTITY)
    return here


async def enrol(here: Stand, act: str = "key.certify", *, serial: int = 0x51, **more: str | bool) -> None:
    """Attach a certificate with a GBCS role, that begins later the higher its serial; `more` are parameters of the act."""
    der = certificate_for(here, "key-1", serial=serial, start=AT + timedelta(days=serial - 0x51))
    await here.carry(act, "key-1", certificate=der, issuer="issuing-oca", **more)


async def refused(here: Stand, act: str = "key.certify", **more: str | bool) -> None:
    with pytest.raises(Forbidden) as found:
        await enrol(here, act, **more)
    assert (found.value.rule, found.value.clause) == ("certificate/ecos", "G2.58")


def flag(here: Stand) -> int | None:
    return here.key("key-1").life.replace_by


async def test_before_the_date_it_is_enrolled_and_flagged_with_the_end_of_its_certificate():
    here = await stand(LIVE)
    here.later(-1)  # the last second of the Live Date itself
    await enrol(here, other_purposes=True)
    assert flag(here) == ENDS
    assert [one.at for one in coming(here.key("key-1")) if one.event == REPLACE] == [ENDS]
    assert here.replay().records == here.ledger.records


async def test_from_the_day_after_it_is_not_enrolled():
    here = await stand(LIVE)
    await refused(here, other_purposes=True)
    assert here.key("key-1").certificate == b""


async def test_where_no_date_is_configured_nothing_is_refused_and_the_flag_is_set_all_the_same():
    here = await stand(None)
    await enrol(here, other_purposes=True)
    assert flag(here) == ENDS


@pytest.mark.parametrize("stated", [{}, {"other_purposes": False}])
async def test_a_key_for_the_purposes_of_gbcs_alone_is_enrolled_at_any_time(stated: dict[str, bool]):
    here = await stand(LIVE)
    await enrol(here, **stated)
    assert flag(here) is None


async def test_one_revoked_under_the_recovery_procedure_is_replaced_and_the_log_says_which():
    here = await stand(LIVE)
    await enrol(here, other_purposes=True, replaces_recovered="0a51")
    assert flag(here) == ENDS
    ((statement, _),) = [
        (one.document["statement"], one.leaf_index)
        for one in here.changes()
        if one.document.get("state") == "done" and "0a51" in str(one.document)
    ]
    assert "0a51" in str(statement)


@pytest.mark.parametrize("named", ["", "00", "51", "0051"])
async def test_naming_nothing_or_the_certificate_itself_replaces_nothing(named: str):
    here = await stand(LIVE)
    await refused(here, other_purposes=True, replaces_recovered=named)


async def test_a_renewal_neither_takes_the_flag_away_nor_puts_the_date_off():
    here = await stand(LIVE)
    here.later(-1)
    await enrol(here, other_purposes=True)
    await here.carry("key.activate", "key-1")
    here.later(-1)
    await enrol(here, "key.renew", serial=0x52)
    assert flag(here) == ENDS
    here.later(2 * DAY)
    await refused(here, "key.renew", serial=0x53)
    await refused(here, "key.renew", serial=0x53, other_purposes=False)
    assert here.replay().records == here.ledger.records


async def test_the_rule_is_asked_again_when_it_is_carried_out():
    """Approved on the Live Date, carried out a day later: refused."""
    here = await stand(LIVE)
    here.later(-1)
    der = certificate_for(here, "key-1", start=AT)
    asked = {"certificate": der, "issuer": "issuing-oca", "other_purposes": True}
    proposal = await here.approved("key.certify", "key-1", **asked)
    here.later(1)
    with pytest.raises(Forbidden) as found:
        await here.governor.execute(HANDS_IN, proposal)
    assert found.value.rule == "certificate/ecos"
    assert here.key("key-1").certificate == b""
