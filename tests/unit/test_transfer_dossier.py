"""The papers of a transfer verified together, off-line: whole ones hold, and each that was touched is named."""

import re
from dataclasses import replace

import pytest

from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.handover import dossier, notices
from cryptosvc.core.handover.dossier import Papers
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.transfer import papers
from tests.governance import NOW
from tests.transfers import ATTESTED, KEYS, TRANSFER, Pair, two_ends

NAMES = ("offer", "plan", "approval", "package", "receipt", "disposition")


def papers_of(pair: Pair, *, disposed_at: int = NOW) -> Papers:
    """Everything either side has signed, as it stands."""
    plan, offer = pair.source.record.plan, pair.destination.record.offer
    assert plan is not None
    notice = notices.Disposed(
        transfer_id=TRANSFER,
        party=pair.source.party,
        package=pair.destination.record.package,
        disposition=plan.disposition,
        keys=tuple(sorted(KEYS)),
        disposed_at=UnixSeconds(disposed_at),
    )
    return Papers(
        offer=pair.destination.say(papers.offer_document(offer)),
        plan=canonical(papers.plan_document(plan)),
        approval=pair.sent,
        package=pair.package(),
        receipt=pair.receipt(),
        disposition=pair.source.say(notices.disposed_document(notice)),
        not_imported=b"",
        source_key=pair.source.spki,
        destination_key=pair.destination.spki,
    )


def pma_of(pair: Pair) -> dict[str, bytes]:
    return {name: one.record.key for name, one in pair.pma.items()}


async def test_whole_papers_hold_and_are_one_page() -> None:
    pair = await (await two_ends()).receipted()
    found = dossier.verify(papers_of(pair), pma_of(pair))
    assert found.transfer_id == TRANSFER
    for said in (
        *KEYS,
        "pat, pia",
        ATTESTED,
        "did nothing at the source",
        "(G2.22H)",
        "disposed of: destroy.",
    ):
        assert said in found.page
    late = dossier.verify(papers_of(pair, disposed_at=NOW + 8 * DAY), pma_of(pair))
    assert "LATER THAN APPROVED" in late.page


async def test_papers_hold_as_far_as_a_transfer_has_gone() -> None:
    pair = await (await two_ends()).receipted()
    whole, pma = papers_of(pair), pma_of(pair)
    for last in range(2, len(NAMES) + 1):
        part = replace(whole, **dict.fromkeys(NAMES[last + 1:], b""))
        assert dossier.verify(part, pma).transfer_id == TRANSFER


@pytest.mark.parametrize("name", NAMES)
async def test_a_paper_that_was_touched_is_named(name: str) -> None:
    pair = await (await two_ends()).receipted()
    whole, pma = papers_of(pair), pma_of(pair)
    octets = getattr(whole, name)
    for place in range(0, len(octets), max(1, len(octets) // 12)):
        spoiled = octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]
        with pytest.raises(Corrupt, match=r"does not hold") as found:
            dossier.verify(replace(whole, **{name: spoiled}), pma)
        assert re.fullmatch(r"dossier/[a-z-]+", found.value.rule)


async def test_papers_of_two_transfers_do_not_mix() -> None:
    one, other = [papers_of(await (await two_ends()).receipted()) for _ in range(2)]
    pair = await (await two_ends()).receipted()
    mine = papers_of(pair)
    for name in NAMES:
        with pytest.raises(Corrupt):
            dossier.verify(replace(mine, **{name: getattr(other, name)}), pma_of(pair))
    with pytest.raises(Corrupt) as found:
        dossier.verify(one, pma_of(pair))
    assert found.value.rule == "dossier/approval"


async def test_an_approval_by_one_of_the_pma_does_not_hold() -> None:
    pair = await (await two_ends()).receipted()
    plan = pair.source.record.plan
    assert plan is not None
    alone = replace(papers_of(pair), approval=pair.signed(pair.approval(plan), "pat"), package=b"")
    with pytest.raises(Corrupt) as found:
        dossier.verify(alone, pma_of(pair))
    assert found.value.rule == "dossier/approval"


async def test_there_is_no_receipt_where_nothing_was_imported() -> None:
    pair = await (await two_ends()).receipted()
    both = replace(papers_of(pair), not_imported=pair.not_imported())
    with pytest.raises(Corrupt) as found:
        dossier.verify(both, pma_of(pair))
    assert found.value.rule == "dossier/not-imported"
    declined = replace(both, package=b"", receipt=b"", disposition=b"")
    assert "imported nothing" in dossier.verify(declined, pma_of(pair)).page
