"""Witnesses of the log, as configured."""

from typing import Annotated

from pydantic import Field

from cryptosvc.config.reading import Section


class WitnessSettings(Section):
    """One witness.

    Args:
        key: its verifier key, name+keyid+base64, as `cryptosvc witness key` prints it.
        url: where it answers; `/add-checkpoint` is added.

    """

    key: Annotated[str, Field(min_length=1, max_length=512)]
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=512)]
