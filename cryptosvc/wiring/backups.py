"""Backups as the command line finds them; a process that makes none does not load them."""

from collections.abc import Sequence
from pathlib import Path

from cryptosvc.cli.actions import Document, Progress
from cryptosvc.cli.backup import Asked
from cryptosvc.wiring import backing_up, restoring


class Backups:
    """Implements `cli.backup.Backups`."""

    def backup(self, config: Path, out: Path, to: Sequence[str], progress: Progress) -> Document:
        """Write one."""
        return backing_up.backup(config, out, to, progress)

    def restore(self, config: Path, sealed: Path, asked: Asked, progress: Progress) -> Document:
        """Verify one, and restore it."""
        return restoring.restore(config, sealed, asked, progress)
