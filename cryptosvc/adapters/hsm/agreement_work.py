"""Work under agreed keys: GMACs to make and attributes to decrypt, each under a key of its own.

A job's key is derived, used once and destroyed within one turn of one session; see `agreeing`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptosvc.adapters.hsm.agreeing import Derivation
from cryptosvc.adapters.hsm.agreer import Agreer
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.work import Inbox, SessionWork
from cryptosvc.core.content.gbcs.agreed import AgreedContent, taken
from cryptosvc.core.content.gbcs.agreement import Agreement
from cryptosvc.core.errors import CryptosvcError, Forbidden, Internal, Unavailable
from cryptosvc.core.names import Environment, Operation, UnixNanoseconds
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing to do under one agreed key.

    Args:
        key: our key-agreement or prepayment key.
        peer: the other party's point, uncompressed and on the curve, 65 octets.
        agreement: what the key is agreed over.
        additional: additional authenticated data.
        ciphertext, tag: what is to be decrypted, and its tag; both empty for a GMAC.
        deadline: it is not begun after this instant.

    """

    key: KeyRecord
    peer: bytes
    agreement: Agreement
    additional: bytes
    deadline: UnixNanoseconds
    ciphertext: bytes = b""
    tag: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job.

    Args:
        octets: the whole tag (16 octets) of a GMAC, or the plaintext.
        derivation: where the key was derived.

    """

    octets: bytes = field(repr=False)
    derivation: Derivation


# Made for every message of a batch: see `quickly`.
_MODULE = Derivation.MODULE.value
_job, _done, _produced = quickly(Job), quickly(Done), quickly(Produced)


def jobs_of(claim: Claim) -> list[Job]:
    """What has to be done for a claim under agreed keys; nothing for a claim that is signed."""
    case = claim.authorised.case
    content = case.content
    if case.facts.operation is Operation.SIGN or not isinstance(content, AgreedContent):
        return []
    return [
        _job(
            key=case.key,
            peer=content.device.public_point,
            agreement=task.agreement,
            additional=task.additional,
            ciphertext=task.ciphertext,
            tag=task.tag,
            deadline=claim.deadline,
        )
        for task in content.tasks
    ]


def produced(claim: Claim, done: Sequence[Done | CryptosvcError]) -> Produced | Failed:
    """The answer to a claim, from what came of its jobs: all of it, or the first failure and nothing."""
    octets: list[bytes] = []
    where = _MODULE
    for one in done:
        if not isinstance(one, Done):
            return Failed(claim, one)
        octets.append(one.octets)
        if one.derivation is not Derivation.MODULE:
            where = one.derivation.value
    content = claim.authorised.case.content
    if not octets or not isinstance(content, AgreedContent):
        raise Internal("a claim without a job under an agreed key", rule="hsm/agreement")
    return _produced(claim, taken(content, octets), where)


class AgreementWork(SessionWork["Done | CryptosvcError"]):
    """Jobs of one module.

    Args:
        jobs: at least one.
        monotonic_offset: time.monotonic() minus Unix time, in seconds.
        inbox: where the finished work goes.

    """

    def __init__(self, jobs: Sequence[Job], monotonic_offset: float, inbox: Inbox) -> None:
        super().__init__(len(jobs))
        self.jobs = jobs
        self._offset = monotonic_offset
        self._inbox = inbox
        self._derivations: dict[int, Derivation] = {}
        self.done: asyncio.Future[None] = inbox.loop.create_future()

    @staticmethod
    def require_allowed(config: ModuleConfig, derivation: Derivation) -> None:
        """Refuse what would bring a shared secret out of the module anywhere but in environment `test`.

        Raises:
            Unavailable: the module does not derive by itself, and this is not `test`.

        """
        if derivation is not Derivation.MODULE and config.environment is not Environment.TEST:
            raise Unavailable(
                f"module {config.name} lacks the key derivation of GBCS (CKD_SHA256_KDF_SP800), and in environment "
                f"{config.environment} no shared secret leaves its module; use a key on a module that has it",
                rule="hsm/no-kdf",
                clause="G2.44(b)",
            )

    def perform(
        self, index: int, agreer: Agreer, session: int, private: int, derivation: Derivation
    ) -> bytes | CryptosvcError:
        """Do one job with our private key's handle; raises CryptokiError."""
        job = self.jobs[index]
        self._derivations[index] = derivation
        if not job.tag:
            return agreer.gmac(session, private, job.peer, job.agreement, job.additional, derivation)
        plain = agreer.decrypt(
            session, private, job.peer, job.agreement, job.additional, job.ciphertext, job.tag, derivation
        )
        if plain is None:
            return Forbidden("not verified", rule="gbcs/mac-not-verified", clause="G2.44(b)")
        return plain

    def item(self, index: int) -> tuple[KeyRecord, bytes]:
        """Not asked: nothing here goes through C_Sign."""
        raise Internal("a job under an agreed key is not signed", rule="hsm/agreement", field=str(index))

    def deadline(self, index: int) -> float:
        """The job's deadline."""
        return self.jobs[index].deadline * 1e-9 + self._offset

    def outcome(self, index: int, outcome: bytes | CryptosvcError) -> Done | CryptosvcError:
        """Done for octets, the error as it is."""
        return _done(outcome, self._derivations[index]) if isinstance(outcome, bytes) else outcome

    def finished(self) -> None:
        """Wake the coroutine that waits."""
        self._inbox.post(self)

    def cancel(self) -> None:
        """Nobody waits any more: jobs that were not begun are not begun."""
        self._offset = float("-inf")

    def in_order(self) -> list[Done | CryptosvcError]:
        """One answer per job, in the order of the jobs."""
        return [self.answers[index] for index in range(self.size)]
