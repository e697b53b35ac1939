"""The papers of a transfer verified together, off-line: whole ones hold, and each that was touched is named."""

import re
from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.core import dsse
from cryptosvc.core.canonical import canonical
from cryptosvc.core.errors import Corrupt
from cryptosvc.core.handover import dossier, logged, notices
from cryptosvc.core.handover.dossier import Papers
from cryptosvc.core.life import DAY, UnixSeconds
from cryptosvc.core.names import RemotePartyRole
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.states import Side
from cryptosvc.flow.transfer_log import TransferLog
from tests.governance import NOW
from tests.log_verifier import signed_note
from tests.transfers import ATTESTED, KEYS, TRANSFER, End, Pair, spki_of, two_ends

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
        part = replace(whole, **dict.fromkeys(NAMES[last + 1 :], b""))
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


async def test_a_package_with_a_key_relabelled_does_not_hold() -> None:
    pair = await (await two_ends()).receipted()
    document = orjson.loads(dsse.parse(pair.package()).payload)
    keys = notices.package_from_document(document).keys
    for changes in ({"role": RemotePartyRole.SUPPLIER}, {"key_class": "xml-signing"}):
        labelled = tuple(
            replace(one, record=replace(one.record, **changes))  # type: ignore[arg-type]  # a test's keywords
            if one.record.key_id == "command-1"
            else one
            for one in keys
        )
        part = replace(papers_of(pair), package=pair.package(keys=labelled), receipt=b"", disposition=b"")
        with pytest.raises(Corrupt, match="other keys than were planned") as found:
            dossier.verify(part, pma_of(pair))
        assert found.value.rule == "dossier/package"


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


class Notary:
    """Signs checkpoints over what the fake ledger holds."""

    def __init__(self, end: End) -> None:
        self.end, self.key = end, ec.generate_private_key(ec.SECP256R1())

    async def sign_checkpoint(self) -> bytes:
        leaves = [leaf.entry for leaf in self.end.stand.ledger.leaves]
        return signed_note(self.end.stand.setting.origin, leaves, self.key).encode()

    async def bundle(self) -> bytes:
        stand = self.end.stand
        log = TransferLog(stand.keys, stand.ledger, self, stand.setting.origin)  # type: ignore[arg-type]  # all it asks for
        return (await log.bundle(TRANSFER))[1]


async def both_logs(pair: Pair) -> Papers:
    source, destination = Notary(pair.source), Notary(pair.destination)
    return replace(
        papers_of(pair),
        source_log=await source.bundle(),
        destination_log=await destination.bundle(),
        source_log_key=spki_of(source.key),
        destination_log_key=spki_of(destination.key),
    )


async def test_what_either_log_has_of_it_holds_and_is_on_the_page() -> None:
    pair = await (await two_ends()).receipted()
    whole = await both_logs(pair)
    page = dossier.verify(whole, pma_of(pair)).page
    for side in Side:
        assert f"In the {side.value}'s log" in page
    for act in ("propose", "approve", "export", "receipt", "offer", "import"):
        assert f"transfer.{act}, proposed by ada, approved by ben, cat, dan" in page
    found = logged.verify(whole.source_log, whole.source_log_key)
    assert (found.transfer, len(found.acts)) == (pair.source.record, 4)


async def test_a_log_that_was_touched_is_named() -> None:
    pair = await (await two_ends()).receipted()
    whole, pma = await both_logs(pair), pma_of(pair)
    octets = whole.source_log
    for place in range(0, len(octets), len(octets) // 40):
        spoiled = octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]
        with pytest.raises(Corrupt) as found:
            dossier.verify(replace(whole, source_log=spoiled), pma)
        assert found.value.rule == "dossier/source-log"
    swapped = replace(
        whole,
        source_log=whole.destination_log,
        source_log_key=whole.destination_log_key,
    )
    with pytest.raises(Corrupt):
        dossier.verify(swapped, pma)
    # another log's key; one act of the transfer left out; another transfer's record
    with pytest.raises(Corrupt):
        dossier.verify(replace(whole, source_log_key=whole.destination_log_key), pma)
    document = orjson.loads(octets)
    less = canonical({**document, "records": document["records"][1:]})
    with pytest.raises(Corrupt, match="in their order"):
        dossier.verify(replace(whole, source_log=less), pma)
    other = await both_logs(await (await two_ends()).receipted())
    foreign = replace(whole, source_log=other.source_log, source_log_key=other.source_log_key)
    with pytest.raises(Corrupt, match=r"another (offer|plan)"):
        dossier.verify(foreign, pma)
