"""What `transfer …` works with, as the command line finds it; loaded when it is needed, as everything in `actions`."""

from collections.abc import Sequence
from pathlib import Path

from cryptosvc.cli.actions import Connection, Document, Progress


class TransferActions:
    """Implements the part of `cli.actions.Actions` that is about transfers."""

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
        """Carry it out, on this machine."""
        from cryptosvc.wiring import transferring

        return transferring.carry_out(config, proposal_id, folder, so_pin_file, caller, processes, progress)

    def transfer_say(
        self, config: Path, transfer_id: str, folder: Path, caller: str, progress: Progress
    ) -> Document:
        """Have it signed, on this machine."""
        from cryptosvc.wiring import transferring

        return transferring.say(config, transfer_id, folder, caller, progress)

    def transfers(self, connection: Connection) -> Sequence[Document]:
        """Ask the service."""
        from cryptosvc.wiring import transfer_calls

        return transfer_calls.transfers(connection)

    def transfer_fetch(self, connection: Connection, transfer_id: str, folder: Path) -> Document:
        """Ask the service."""
        from cryptosvc.wiring import transfer_calls

        return transfer_calls.fetch(connection, transfer_id, folder)

    def transfer_evidence(self, config: Path, transfer_id: str, folder: Path, caller: str) -> Document:
        """Take it out, on this machine."""
        from cryptosvc.wiring import transferring

        return transferring.evidence(config, transfer_id, folder, caller)

    def transfer_plan(self, config: Path, terms: Path, folder: Path, caller: str) -> Document:
        """Draw it up, on this machine."""
        from cryptosvc.wiring import transferring

        return transferring.plan(config, terms, folder, caller)

    def transfer_scope(self, config: Path, folder: Path, caller: str) -> Document:
        """Look at this machine's registry."""
        from cryptosvc.wiring import transferring

        return transferring.scope(config, folder, caller)

    def transfer_approval(self, conditions: Path, folder: Path) -> Document:
        """Read the papers."""
        from cryptosvc.wiring import transfer_offline

        return transfer_offline.approval(conditions, folder)

    def transfer_sign_approval(self, key: str, folder: Path) -> Document:
        """Sign it here."""
        from cryptosvc.wiring import transfer_offline

        return transfer_offline.sign_approval(key, folder)

    def transfer_verify(
        self, folder: Path, pma: Path, source_log: Path | None, destination_log: Path | None
    ) -> Document:
        """Read the papers."""
        from cryptosvc.wiring import transfer_offline

        return transfer_offline.verify(folder, pma, source_log, destination_log)
