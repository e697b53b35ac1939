"""What this deployment's service says of a transfer to the other side, signed once the step is in its log.

So a package is signed after its keys stopped being usable here, with what they were used for until then, and a receipt
after the transport key is destroyed.

Source: Smart Energy Code G2.22F to G2.22I.
"""

import hashlib

from cryptosvc.core import dsse
from cryptosvc.core.acts.base import text_of
from cryptosvc.core.acts.transfer_destination import proof_of
from cryptosvc.core.acts.transfer_devices import rows_of, work_id
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.case import Principal, Request
from cryptosvc.core.device_records import DeviceWorkRecord, WorkKind
from cryptosvc.core.errors import Conflict, Corrupt, Malformed, WrongState
from cryptosvc.core.handover import checks, claimed, notices
from cryptosvc.core.handover.beside import CARRIER, claims_name
from cryptosvc.core.handover.claimed import Claimed
from cryptosvc.core.names import ContentForm, KeyId, RequestId
from cryptosvc.core.proposal import ProposalRecord, ProposalState
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer import papers
from cryptosvc.core.transfer.mechanism import Trust
from cryptosvc.core.transfer.record import TransferRecord
from cryptosvc.core.transfer.states import Step, TransferState
from cryptosvc.flow.freight import Freighter, settled
from cryptosvc.flow.ports import Clock, Records
from cryptosvc.flow.sign import Signed, Signer
from cryptosvc.flow.transfer import Crate, Promises


class Spokesman:
    """Signs this deployment's statements of a transfer, as the service's own principal, through the corridor."""

    def __init__(
        self,
        records: Records,
        promises: Promises,
        crate: Crate | None,
        signer: Signer,
        clock: Clock,
        service: tuple[Principal, KeyId],
        freighter: Freighter | None = None,
    ) -> None:
        """`service` is the principal in whose name it is signed, and the key that signs; `freighter` packs device keys.

        Without a crate no package is signed: what is beside it is written where it is signed.
        """
        self._freighter = freighter
        self._records = records
        self._promises = promises
        self._crate = crate
        self._signer = signer
        self._clock = clock
        self._service, self._service_key = service

    async def say(self, transfer_id: str) -> tuple[str, bytes]:
        """The statement that follows from where a transfer stands here: its type, and the DSSE envelope.

        Raises:
            WrongState: nothing is to be said in this state.
            Malformed: there is no such transfer.
            CryptosvcError: why it could not be signed.

        """
        found = await self._records.record("transfer-record", transfer_id)
        if not isinstance(found, TransferRecord):
            raise Malformed(f"there is no transfer {transfer_id}", rule="transfer/unknown", clause="G2.22I")
        await settled(self._records, transfer_id)
        document = await self._document(found)
        request = Request(
            request_id=RequestId(f"transfer-{found.version}-{self._clock.now().at}"),
            key_id=self._service_key,
            form=ContentForm.SERVICE_STATEMENT,
            payload=canonical(document),
        )
        (answer,) = await self._signer.sign(self._service, [request])
        if not isinstance(answer, Signed):
            raise answer.error
        return str(document["type"]), answer.checked.artefact

    async def _document(self, found: TransferRecord) -> dict[str, JsonValue]:
        match found.state:
            case TransferState.OFFERED:
                return papers.offer_document(found.offer)
            case TransferState.EXPORTED:
                return notices.package_document(await self._package(found))
            case TransferState.IMPORTED:
                return notices.receipt_document(_receipt(found, await self._rows(found)))
            case TransferState.DECLINED:
                return notices.not_imported_document(_not_imported(found))
            case TransferState.DISPOSED:
                return notices.disposed_document(_disposed(found))
            case (
                TransferState.PROPOSED
                | TransferState.APPROVED
                | TransferState.RECEIPTED
                | TransferState.ABORTED
                | TransferState.ROLLED_BACK
            ):
                raise WrongState(
                    f"a transfer that is {found.state} has nothing to say to the other side",
                    rule="transfer/step",
                    clause="G2.22I",
                )

    async def _package(self, found: TransferRecord) -> notices.Package:
        if self._crate is None:
            raise WrongState(
                "a package is signed on the machine of the service, where its blobs lie: cryptosvc transfer say",
                rule="transfer/on-the-machine",
                clause="G2.22I",
            )
        plan, facts = found.plan, dict(found.facts)
        at = found.when(Step.EXPORT)
        if plan is None or at is None:
            raise Corrupt("an exported transfer has a plan and a date", rule="transfer/record")
        keys = []
        promised = await self._promises.of_keys([KeyId(one.key_id) for one in plan.keys])
        for one in plan.keys:
            record = await self._records.record("key-record", one.key_id)
            if not isinstance(record, KeyRecord):
                raise Corrupt(f"the record of key {one.key_id} is missing", rule="transfer/record")
            blob = facts[f"blob:{one.key_id}"]
            claims = _put_claims(self._crate, record.key_id, promised[record.key_id])
            check = facts.get(f"check:{one.key_id}", "")
            keys.append(notices.PackedKey(record=record, blob=blob, claims=claims, check=check))
        return notices.Package(
            plan=plan,
            approval=await self._approval(found.transfer_id),
            keys=tuple(keys),
            carrier=facts[CARRIER],
            trust=Trust(facts["trust"]),
            exported_at=at,
            freight=await self._freight(found),
        )

    async def _freight(self, found: TransferRecord) -> notices.Freight | None:
        if not rows_of(found):
            return None
        if self._freighter is None:
            raise Corrupt("device keys move, and nothing packs them", rule="transfer/devices")
        return await self._freighter.pack(found)

    async def _rows(self, found: TransferRecord) -> int:
        """Device keys that were taken in."""
        name = work_id(found.transfer_id, WorkKind.RECEIVE)
        work = await self._records.record("device-work-record", name)
        return work.accepted if isinstance(work, DeviceWorkRecord) else 0

    async def _approval(self, transfer_id: str) -> str:
        """The SMKI PMA's envelope, from the statement that the export was carried out under."""
        for one in await self._records.of_kind("proposal-record"):
            if not isinstance(one, ProposalRecord) or one.state is not ProposalState.DONE:
                continue
            if (one.statement.act, one.statement.subject) == ("transfer.export", transfer_id):
                octets = bytes.fromhex(text_of(one.statement, "approval"))
                dsse.parse(octets)
                return octets.decode()
        raise Conflict("the export of this transfer is not in the registry", rule="transfer/record")


def _put_claims(crate: Crate, key_id: KeyId, found: Claimed) -> str:
    """Put what a key's claims took into the crate; the digest of it. No claim comes after: the key is in transfer."""
    octets = claimed.emit(found)
    crate.put(claims_name(key_id), octets)
    return hashlib.sha256(octets).hexdigest()


def _receipt(found: TransferRecord, rows: int) -> notices.Receipt:
    at, plan = found.when(Step.IMPORT), found.plan
    if at is None or plan is None:
        raise Corrupt("an imported transfer has a plan and a date", rule="transfer/record")
    facts = dict(found.facts)
    return notices.Receipt(
        transfer_id=found.transfer_id,
        party=found.offer.party,
        package=found.package,
        proofs=tuple(proof_of(facts, one.key_id) for one in plan.keys),
        imported_at=at,
        rows=rows,
    )


def _not_imported(found: TransferRecord) -> notices.NotImported:
    at = found.when(Step.DECLINE)
    if at is None:
        raise Corrupt("a declined transfer has a date", rule="transfer/record")
    return notices.NotImported(
        transfer_id=found.transfer_id,
        party=found.offer.party,
        offer=checks.offer_digest(found.offer),
        declined_at=at,
    )


def _disposed(found: TransferRecord) -> notices.Disposed:
    at, plan = found.when(Step.DISPOSE), found.plan
    if at is None or plan is None:
        raise Corrupt("a transfer that is disposed has a plan and a date", rule="transfer/record")
    return notices.Disposed(
        transfer_id=found.transfer_id,
        party=plan.source,
        package=found.package,
        disposition=plan.disposition,
        keys=tuple(one.key_id for one in plan.keys),
        disposed_at=at,
    )
