"""Request and response identifiers: `originator:target:counter`.

Two EUI-64s in their one text form and a number from 0 to 2**64 - 1 without leading zeros. The schema also admits
lower-case digits and white space around the whole; neither is accepted here, since uniqueness is by the text.

Source: DUIS XML schema 5.4, RequestIDType and ResponseIDType.

Example:
    >>> MessageId.parse("90-B3-D5-1F-30-01-00-00:00-DB-12-34-56-78-90-A0:1000").counter
    1000
"""

import re
from dataclasses import dataclass
from typing import Self

from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm, Eui64

_FORM = re.compile(
    r"((?:[0-9A-F]{2}-){7}[0-9A-F]{2}):((?:[0-9A-F]{2}-){7}[0-9A-F]{2}):(0|[1-9][0-9]{0,19})", re.ASCII
)
_COUNTER_END = 1 << 64


@dataclass(frozen=True, slots=True)
class MessageId:
    """One identifier.

    Args:
        originator: who sends the message.
        target: who it is for.
        counter: the originator's counter, 0 to 2**64 - 1.

    """

    originator: Eui64
    target: Eui64
    counter: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; Malformed where it is any other."""
        found = _FORM.fullmatch(text)
        if found is None or (counter := int(found[3])) >= _COUNTER_END:
            raise Malformed(
                "an identifier is originator:target:counter, EUI-64s in upper case, the counter without leading zeros",
                rule="duis/message-id",
                field=ContentForm.DUIS_DOCUMENT.value,
            )
        return cls(Eui64.parse(found[1]), Eui64.parse(found[2]), counter)

    def __str__(self) -> str:
        return f"{self.originator}:{self.target}:{self.counter}"
