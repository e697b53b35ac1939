"""The table of governed acts. What is not in it cannot be proposed.

Example:
    >>> act("key.suspend").clause
    'G5.13(b)'
"""

from collections.abc import Mapping
from types import MappingProxyType

from cryptosvc.core.acts.base import Act
from cryptosvc.core.acts.devices import DEVICE_ACTS
from cryptosvc.core.acts.key_table import KEY_ACTS
from cryptosvc.core.acts.logs import LOG_ACTS
from cryptosvc.core.acts.people import PEOPLE_ACTS
from cryptosvc.core.acts.transfer_table import TRANSFER_ACTS
from cryptosvc.core.errors import Malformed

ACTS: Mapping[str, Act] = MappingProxyType(
    {row.name: row for row in (*KEY_ACTS, *PEOPLE_ACTS, *TRANSFER_ACTS, *DEVICE_ACTS, *LOG_ACTS)}
)


def act(name: str) -> Act:
    """Find an act; Malformed, listing them all, where there is none of the name."""
    found = ACTS.get(name)
    if found is None:
        raise Malformed(
            f"there is no act {name!r}; acts are {', '.join(ACTS)}", rule="statement/act", field="act"
        )
    return found
