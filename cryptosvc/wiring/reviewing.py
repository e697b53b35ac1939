"""`audit review`: statements are signed off-line and entered on the machine of the service, beside its workers."""

import asyncio
from pathlib import Path

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm import card
from cryptosvc.cli.actions import Document
from cryptosvc.cli.governance import require_absent, write_file
from cryptosvc.cli.reviewing import Reviewed
from cryptosvc.core import checkpoint, dsse, review
from cryptosvc.core.account import instant
from cryptosvc.core.life import DAY, NANOSECONDS, UnixSeconds
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets
from cryptosvc.wiring.reconciling import opened_floor
from cryptosvc.wiring.watch_log import review_days, reviewer


class Reviews:
    """Implements `cli.reviewing.Reviews`."""

    def sign(self, key: str, reviewed: Reviewed, out: Path) -> Document:
        """See there; Corrupt where the checkpoint does not verify."""
        require_absent(out)
        # 1 what was reviewed, and that the log's key signed it
        note = read_octets(reviewed.checkpoint, "--checkpoint")
        origin = checkpoint.parse(note).checkpoint.origin
        head = checkpoint.verify(note, origin, public_key_der(reviewed.log_key))
        found = review.Review(
            origin=origin,
            start=reviewed.start,
            stop=reviewed.stop or head.size,
            size=head.size,
            root=head.root,
            reviewed_at=UnixSeconds(SystemClock().now().at // NANOSECONDS),
            remarks=reviewed.remarks,
        )
        # 2 sign it
        octets = review.emit(found)
        with card.open_key(key) as opened:
            name = dsse.key_id(opened.spki)
            envelope = dsse.emit(dsse.sign(review.REVIEW_TYPE, octets, {name: opened.sign}))
        write_file(out, envelope)
        return {
            "signed_by": name,
            "origin": origin,
            "from": found.start,
            "to": found.stop - 1,
            "entries_of_checkpoint": found.size,
            "written_to": str(out),
        }

    def record(self, config: Path, envelope: Path) -> Document:
        """See there; raises as `Reviewer.sign_off`."""
        octets = read_octets(envelope, "FILE")

        async def run() -> Document:
            async with opened_floor(config, "review") as floor:
                use = reviewer(floor.settings, floor.store, floor.clock)
                found, auditor, receipt = await use.sign_off(octets)
                return {
                    "entry": receipt.leaf_index,
                    "auditor": auditor.custodian_id,
                    "from": found.start,
                    "to": found.stop - 1,
                }

        return asyncio.run(run())

    def listed(self, config: Path, *, signed: bool) -> list[Document]:
        """See there."""

        async def run() -> list[Document]:
            async with opened_floor(config, "review") as floor:
                use = reviewer(floor.settings, floor.store, floor.clock)
                if signed:
                    return [
                        {
                            "entry": one.leaf_index,
                            "from": one.reviewed[0],
                            "to": one.reviewed[1] - 1,
                            "at": instant(one.at * NANOSECONDS),
                        }
                        for one in await use.signed_off()
                    ]
                days = review_days(floor.settings)
                return [
                    {
                        "from": one.left[0],
                        "to": one.left[1] - 1,
                        "entries": one.left[1] - one.left[0],
                        "since": instant(one.since * NANOSECONDS),
                        "days": one.age_seconds // DAY,
                        "late": one.age_seconds > days * DAY,
                    }
                    for one in await use.left()
                ]

        return asyncio.run(run())
