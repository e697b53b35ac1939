"""The actions behind the command line. Floors are imported when an action needs them, so that `--help` is quick."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptosvc.cli.actions import Answer, Ask, Connection, Document, Draft, Finding, Progress, Signed
from cryptosvc.wiring.audit_actions import AuditActions
from cryptosvc.wiring.transfer_actions import TransferActions

if TYPE_CHECKING:
    from cryptosvc.cli.desk import TerminalDesk
    from cryptosvc.core.evidence import Verdict
    from cryptosvc.core.reconcile import Difference


class WiredActions(AuditActions, TransferActions):
    """Implements `cli.actions.Actions`."""

    def serve(self, config: Path) -> None:
        """Run the supervisor."""
        from cryptosvc.config.settings import read_settings
        from cryptosvc.wiring import journal, process, supervisor

        process.protect_memory()
        journal.set_up(part="supervisor")
        supervisor.supervise(config, read_settings(config))

    def work(self, config: Path, index: int, listen: str, ready: Path | None, proven: str) -> None:
        """Run one worker."""
        from cryptosvc.wiring import worker

        worker.run(config, index, listen, ready, proven)

    def init(self, config: Path, provisioning: Path, progress: Progress) -> Document:
        """Provision a test deployment."""
        from cryptosvc.wiring import provision

        return provision.run(config, provisioning, progress)

    def sign(self, connection: Connection, ask: Ask) -> Answer:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.sign(connection, ask)

    def explain(self, connection: Connection, ask: Ask) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.explain(connection, ask)

    def keys(self, connection: Connection) -> Sequence[Document]:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.keys(connection)

    def key(self, connection: Connection, key_id: str) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.key(connection, key_id)

    def checkpoint(self, connection: Connection) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.checkpoint(connection)

    def entry(self, connection: Connection, leaf_index: int) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import calls

        return calls.entry(connection, leaf_index)

    def prove(self, connection: Connection, leaf_index: int) -> Document:
        """Ask the service, and verify its answer here."""
        from cryptosvc.wiring import calls

        return calls.prove(connection, leaf_index)

    def export(self, config: Path, out: Path, progress: Progress) -> Document:
        """Read the store."""
        from cryptosvc.wiring import exporting

        return exporting.export(config, out, progress)

    def verify(
        self, export: Path, key: Path, origin: str, since: Path | None, processes: int, progress: Progress
    ) -> "Verdict":
        """Read the export."""
        from cryptosvc.wiring import exporting

        return exporting.verify(export, key, origin, since, processes, progress)

    def policy_check(self, folder: Path) -> Document:
        """Load and run the tables."""
        from cryptosvc.wiring import review

        return review.check(folder)

    def policy_explain(
        self, folder: Path, facts: Mapping[str, str], config: Path | None, classification: str
    ) -> Document:
        """Explain one set of facts, with the modules of a configuration where one is given."""
        from cryptosvc.wiring import review

        return review.explained(folder, facts, config, classification)

    def policy_matrix(self, folder: Path) -> tuple[str, Sequence[Document]]:
        """List what is permitted."""
        from cryptosvc.wiring import review

        return review.matrix(folder)

    def module_log(self, config: Path, module: str, file: Path, tolerance_seconds: int) -> "Document":
        """See `cli/actions.py`."""
        from cryptosvc.wiring import reconciling

        return reconciling.module_log(config, module, file, tolerance_seconds)

    def reconcile(self, config: Path, *, finish: bool) -> "tuple[Sequence[Difference], Sequence[Document]]":
        """Compare, on this machine."""
        from cryptosvc.wiring import reconciling

        return reconciling.reconcile(config, finish=finish)

    def certify_destruction(self, config: Path, key_id: str, out: Path) -> Document:
        """Certify, on this machine."""
        from cryptosvc.wiring import reconciling

        return reconciling.certify_destruction(config, key_id, out)

    def verify_destruction(self, certificate: Path, service_key: Path, log_key: Path) -> Document:
        """Read the certificate."""
        from cryptosvc.wiring import reconciling

        return reconciling.verify_destruction(certificate, service_key, log_key)

    def import_device_keys(
        self, config: Path, work: str, file: Path, on_bad_line: str, processes: int, progress: Progress
    ) -> Document:
        """Import, on this machine."""
        from cryptosvc.wiring import device_keys

        return device_keys.import_keys(config, work, file, on_bad_line, processes, progress)

    def show_device_key(self, config: Path, key: str) -> Document:
        """Read the store."""
        from cryptosvc.wiring import device_keys

        return device_keys.show(config, key)

    def rotate_device_key(self, config: Path, work: str, *, confirm: bool) -> Document:
        """Rotate, on this machine."""
        from cryptosvc.wiring import device_keys

        return device_keys.rotate(config, work, confirm=confirm)

    def re_wrap_device_keys(self, config: Path, work: str, processes: int, progress: Progress) -> Document:
        """Wrap anew, on this machine."""
        from cryptosvc.wiring import device_keys

        return device_keys.re_wrap(config, work, processes, progress)

    def destroy_device_key(self, config: Path, work: str) -> Document:
        """Remove, on this machine."""
        from cryptosvc.wiring import device_keys

        return device_keys.destroy(config, work)

    def certify_device_key(self, config: Path, work: str, out: Path) -> Document:
        """Certify, on this machine."""
        from cryptosvc.wiring import device_keys

        return device_keys.certify(config, work, out)

    def verify_device_key_certificate(self, certificate: Path, service_key: Path, log_key: Path) -> Document:
        """Read the certificate."""
        from cryptosvc.wiring import device_keys

        return device_keys.verify_certificate(certificate, service_key, log_key)

    def device_transport_key(self, config: Path, key: str, out: Path) -> Document:
        """Read the module."""
        from cryptosvc.wiring import device_keys

        return device_keys.transport(config, key, out)

    def genesis_draft(self, config: Path, file: Path) -> bytes:
        """Draw it up."""
        from cryptosvc.wiring import founding

        return founding.draft(config, file)

    def genesis_sign(self, key: str, octets: bytes) -> Signed:
        """Sign it here."""
        from cryptosvc.wiring import founding

        return founding.sign(key, octets)

    def genesis(self, config: Path, file: Path, progress: Progress) -> Document:
        """Begin."""
        from cryptosvc.wiring import founding

        return founding.run(config, file, progress)

    def custodian_draft(self, file: Path, system: str) -> bytes:
        """Read the file."""
        from cryptosvc.wiring import drafts

        return drafts.custodian(file, system)

    def caller_draft(self, file: Path, system: str, version: int) -> bytes:
        """Read the file."""
        from cryptosvc.wiring import drafts

        return drafts.caller(file, system, version)

    def setting(self, connection: Connection) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.setting(connection)

    def draft(self, connection: Connection | None, asked: Draft) -> tuple[bytes, bytes, Document | None]:
        """Make and sign it here."""
        from cryptosvc.wiring import governing

        return governing.draft(connection, asked)

    def sign_statement(self, key: str, octets: bytes) -> Signed:
        """Sign it here."""
        from cryptosvc.wiring import governing

        return governing.sign_statement(key, octets)

    def sign_withdrawal(self, key: str, proposal_id: str, reason: str) -> Signed:
        """Sign it here."""
        from cryptosvc.wiring import governing

        return governing.sign_withdrawal(key, proposal_id, reason)

    def submit(self, connection: Connection, envelopes: Sequence[bytes]) -> Sequence[Document]:
        """Hand in."""
        from cryptosvc.wiring import governing

        return governing.submit(connection, envelopes)

    def execute(self, connection: Connection, proposal_id: str) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.execute(connection, proposal_id)

    def proposals(self, connection: Connection, state: str) -> Sequence[Document]:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.proposals(connection, state)

    def proposal(self, connection: Connection, proposal_id: str) -> tuple[Document, bytes]:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.proposal(connection, proposal_id)

    def records(self, connection: Connection, kind: str) -> Sequence[Document]:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.records(connection, kind)

    def due(self, connection: Connection, days: int) -> Sequence[Document]:
        """Ask the service."""
        from cryptosvc.wiring import governing

        return governing.due(connection, days)

    def doctor(self, config: Path) -> Sequence[Finding]:
        """Look at everything."""
        from cryptosvc.wiring import doctor

        return doctor.examine(config)

    def ceremony_check(self, file: Path) -> tuple[str, Document]:
        """Read the file."""
        from cryptosvc.wiring.ceremony import judging

        return judging.check(file)

    def ceremony_rehearse(self, config: Path, file: Path, folder: Path, desk: "TerminalDesk") -> Document:
        """Make a stage, and hold it there."""
        from cryptosvc.wiring import process
        from cryptosvc.wiring.ceremony import holding

        process.protect_memory()
        return holding.rehearse(config, file, folder, desk)

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
        """Hold it on this machine."""
        from cryptosvc.wiring import process
        from cryptosvc.wiring.ceremony import holding

        process.protect_memory()
        return holding.run(config, file, people, folder, caller, desk, so_pin_file)

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
        """Go on, on this machine."""
        from cryptosvc.wiring import process
        from cryptosvc.wiring.ceremony import holding

        process.protect_memory()
        return holding.resume(config, file, people, folder, caller, desk, so_pin_file)

    def ceremony_diff(self, rehearsal: Path, real: Path) -> tuple[str, Document, Callable[[], None]]:
        """Read both."""
        from cryptosvc.wiring.ceremony import judging

        return judging.diff(rehearsal, real)

    def ceremony_verify(self, transcript: Path, people: Path, log_key: Path | None) -> Document:
        """Read it, and the keys."""
        from cryptosvc.wiring.ceremony import judging

        return judging.verify(transcript, people, log_key)
