"""What the commands need done: one protocol, implemented by `wiring`, which alone knows the other floors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.content.base import Statement
from cryptosvc.core.names import ContentForm

if TYPE_CHECKING:  # the verifier brings the whole of core with it, and `--help` should not wait for that
    from cryptosvc.cli.desk import TerminalDesk
    from cryptosvc.core.evidence import Verdict
    from cryptosvc.core.reconcile import Difference

Document = Mapping[str, JsonValue]
"""What a command answers with: flat where it can be, printed as JSON or as a table."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how many are done, how many there are; 0 where not known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the service is and who calls it: HOST:PORT and three PEM files."""

    target: str
    ca: Path
    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as given on the command line; `request_id` is empty where the client may choose it."""

    key_id: str
    form: ContentForm
    payload: bytes
    request_id: str = ""
    statement: Statement = field(default=Statement())
    supply_sensitive_check: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A signed artefact, r‖s, the clause that permits it and the receipt's fields."""

    artefact: bytes
    signature: bytes
    clause: str
    request_id: str
    receipt: Document


class Health(StrEnum):
    """What `doctor` thinks of one thing."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing `doctor` looked at.

    Args:
        subject: what was looked at, as `module softhsm`.
        health: the verdict.
        seen: what was found.
        advice: what to do about it; empty where nothing.

    """

    subject: str
    health: Health
    seen: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A statement to be made and signed.

    Args:
        act, subject, parameters, reason: as in the statement.
        key: PEM file or `pkcs11:` URI of the proposer's key.
        proposer: custodian id; empty to find it by the key, where there is a connection.
        version: of the subject's record, where there is no connection.
        open_seconds: how long it may be approved and carried out.
        setting: deployment and policies, where there is no connection.

    """

    act: str
    subject: str
    parameters: Mapping[str, JsonValue]
    reason: str
    key: str
    proposer: str
    version: int
    open_seconds: int
    setting: Document


@dataclass(frozen=True, slots=True)
class Signed:
    """A DSSE envelope, and the id of the key that signed it."""

    key_id: str
    envelope: bytes


class Actions(Protocol):
    """Everything the commands can do. Each raises classes of `core/errors.py` and nothing else."""

    def serve(self, config: Path) -> None:
        """Run the service until it is told to stop."""

    def work(self, config: Path, index: int, listen: str, ready: Path | None, proven: str) -> None:
        """Run one worker process on HOST:PORT; it makes the file `ready` once it serves.

        `proven` is the digest of the policies that the supervisor has proven, empty where none were.
        """

    def init(self, config: Path, provisioning: Path, progress: Progress) -> Document:
        """Create registry, log and keys of a test deployment."""

    def sign(self, connection: Connection, ask: Ask) -> Answer:
        """Ask the service to sign."""

    def explain(self, connection: Connection, ask: Ask) -> Document:
        """Ask the service whether it would sign."""

    def keys(self, connection: Connection) -> Sequence[Document]:
        """Keys this caller may use."""

    def key(self, connection: Connection, key_id: str) -> Document:
        """One of them."""

    def checkpoint(self, connection: Connection) -> Document:
        """The newest signed checkpoint."""

    def entry(self, connection: Connection, leaf_index: int) -> Document:
        """One log entry."""

    def prove(self, connection: Connection, leaf_index: int) -> Document:
        """An inclusion proof for one entry, verified against the newest checkpoint that covers it."""

    def export(self, config: Path, out: Path, progress: Progress) -> Document:
        """Write the log to a file, from the store."""

    def verify(
        self, export: Path, key: Path, origin: str, since: Path | None, processes: int, progress: Progress
    ) -> "Verdict":
        """Verify an export off-line."""

    def policy_check(self, folder: Path) -> Document:
        """Load the policies with every check there is."""

    def policy_explain(
        self, folder: Path, facts: Mapping[str, str], config: Path | None, classification: str
    ) -> Document:
        """Say what the policies answer for these facts and why, and of each configured module whether it would do."""

    def policy_matrix(self, folder: Path) -> tuple[str, Sequence[Document]]:
        """What is permitted: as a short text, and every cell of facts with its decision, clauses and policies."""

    def module_log(self, config: Path, module: str, file: Path, tolerance_seconds: int) -> Document:
        """Hold a module's own log against the service's."""

    def reconcile(self, config: Path, *, finish: bool) -> tuple[Sequence["Difference"], Sequence[Document]]:
        """Compare modules, registry and log; with `finish`, first end what was left unfinished."""

    def certify_destruction(self, config: Path, key_id: str, out: Path) -> Document:
        """Write the destruction certificate of a key."""

    def verify_destruction(self, certificate: Path, service_key: Path, log_key: Path) -> Document:
        """Verify one off-line."""

    def import_device_keys(
        self, config: Path, work: str, file: Path, on_bad_line: str, processes: int, progress: Progress
    ) -> Document:
        """Import device keys for an approved work; what became of it, and of bad lines."""

    def show_device_key(self, config: Path, key: str) -> Document:
        """Every version of one device key."""

    def rotate_device_key(self, config: Path, work: str, *, confirm: bool) -> Document:
        """Make the next version of a device key, or put it in the place of the old one."""

    def re_wrap_device_keys(self, config: Path, work: str, processes: int, progress: Progress) -> Document:
        """Leave an epoch."""

    def destroy_device_key(self, config: Path, work: str) -> Document:
        """Remove a device key."""

    def certify_device_key(self, config: Path, work: str, out: Path) -> Document:
        """Write the destruction certificate of a device key."""

    def verify_device_key_certificate(self, certificate: Path, service_key: Path, log_key: Path) -> Document:
        """Verify one off-line."""

    def device_transport_key(self, config: Path, key: str, out: Path) -> Document:
        """Write the public half of a transport key."""

    def transfer_carry_out(
        self,
        config: Path,
        proposal_id: str,
        folder: Path,
        so_pin_file: Path | None,
        caller: str,
        processes: int,
        progress: Progress,
    ) -> Document:
        """Carry out an approved act on a transfer, or go on with it."""

    def transfer_say(
        self, config: Path, transfer_id: str, folder: Path, caller: str, progress: Progress
    ) -> Document:
        """Have the service sign what it has to say of a transfer."""

    def transfers(self, connection: Connection) -> Sequence[Document]:
        """Ask the service for every transfer."""

    def transfer_fetch(self, connection: Connection, transfer_id: str, folder: Path) -> Document:
        """Ask the service for what it has to say of a transfer, and for its part of the log."""

    def transfer_evidence(self, config: Path, transfer_id: str, folder: Path, caller: str) -> Document:
        """Take a transfer out of the log with its proofs."""

    def transfer_plan(self, config: Path, terms: Path, folder: Path, caller: str) -> Document:
        """Draw up a plan for an offer."""

    def transfer_scope(self, config: Path, folder: Path, caller: str) -> Document:
        """Write down which keys move, and who of the SMKI PMA signed."""

    def transfer_approval(self, conditions: Path, folder: Path) -> Document:
        """Draw up the SMKI PMA's approval."""

    def transfer_sign_approval(self, key: str, folder: Path) -> Document:
        """Add one signature of the SMKI PMA."""

    def transfer_verify(
        self, folder: Path, pma: Path, source_log: Path | None, destination_log: Path | None
    ) -> Document:
        """Verify the papers of a transfer off-line."""

    def genesis_draft(self, config: Path, file: Path) -> bytes:
        """Draw up the genesis of a deployment: the octets its custodians sign."""

    def genesis_sign(self, key: str, octets: bytes) -> Signed:
        """Add one custodian's signature to a genesis."""

    def genesis(self, config: Path, file: Path, progress: Progress) -> Document:
        """Begin a deployment with a signed genesis."""

    def custodian_draft(self, file: Path, system: str) -> bytes:
        """The record of a new custodian, from a TOML file."""

    def caller_draft(self, file: Path, system: str, version: int) -> bytes:
        """The record of a caller, from a TOML file."""

    def setting(self, connection: Connection) -> Document:
        """What a statement has to name to be accepted by the service."""

    def draft(self, connection: Connection | None, asked: Draft) -> tuple[bytes, bytes, Document | None]:
        """Make and sign a statement: statement, envelope, and the subject's record where there is one."""

    def sign_statement(self, key: str, octets: bytes) -> Signed:
        """Sign a statement off-line."""

    def sign_withdrawal(self, key: str, proposal_id: str, reason: str) -> Signed:
        """Sign a withdrawal off-line."""

    def submit(self, connection: Connection, envelopes: Sequence[bytes]) -> Sequence[Document]:
        """Hand in envelopes; the proposals as they are afterwards."""

    def execute(self, connection: Connection, proposal_id: str) -> Document:
        """Have an approved proposal carried out."""

    def proposals(self, connection: Connection, state: str) -> Sequence[Document]:
        """Every proposal, or those in one state."""

    def proposal(self, connection: Connection, proposal_id: str) -> tuple[Document, bytes]:
        """One proposal, and the octets of its statement."""

    def records(self, connection: Connection, kind: str) -> Sequence[Document]:
        """Every record of a kind."""

    def due(self, connection: Connection, days: int) -> Sequence[Document]:
        """What is going to happen to keys without anybody."""

    def doctor(self, config: Path) -> Sequence[Finding]:
        """Look at everything a worker needs."""

    def ceremony_check(self, file: Path) -> tuple[str, Document]:
        """Walk a ceremony on paper: the plan as Markdown, and what there is to say of it."""

    def ceremony_rehearse(self, config: Path, file: Path, folder: Path, desk: "TerminalDesk") -> Document:
        """Hold a ceremony on a stage of its own."""

    def ceremony_run(
        self,
        config: Path,
        file: Path,
        people: Path,
        folder: Path,
        caller: str,
        so_pin_file: Path | None,
        desk: "TerminalDesk",
    ) -> Document:
        """Hold a ceremony."""

    def ceremony_resume(
        self,
        config: Path,
        file: Path,
        people: Path,
        folder: Path,
        caller: str,
        so_pin_file: Path | None,
        desk: "TerminalDesk",
    ) -> Document:
        """Go on with an interrupted ceremony."""

    def ceremony_diff(self, rehearsal: Path, real: Path) -> tuple[str, Document, Callable[[], None]]:
        """Compare two transcripts: as Markdown, as a document, and what raises where they differ."""

    def ceremony_verify(self, transcript: Path, people: Path, log_key: Path | None) -> Document:
        """Judge a transcript."""
