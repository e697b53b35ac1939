"""Who backups are for, as configured."""

from typing import Annotated

from pydantic import Field

from cryptosvc.config.reading import Section


class BackupSettings(Section):
    """Backups.

    Args:
        recipients: age or SSH public keys of whoever may restore; where there are any, a backup is for no other.

    """

    recipients: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = ()
