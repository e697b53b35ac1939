"""One act of a ceremony, with the words in which it is announced and confirmed.

Example:
    >>> Act(number=1, kind=ActKind.SUSPEND, settings=(("key", "issuing-oca-1"),), clause="G5.13(b)").confirmation
    'suspend issuing-oca-1'
"""

from dataclasses import dataclass

from cryptosvc.core.ceremony.fields import Setting
from cryptosvc.core.ceremony.rows import ROWS, ActKind, ActRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act of a ceremony.

    Args:
        number: from 1.
        kind: what it is.
        settings: (field, value) pairs sorted by field, as the file has them.
        expected: (result, value) pairs sorted by name: what the file says beforehand, and what the table implies.
        clause: under which it is done.

    """

    number: int
    kind: ActKind
    settings: tuple[tuple[str, Setting], ...]
    expected: tuple[tuple[str, Setting], ...] = ()
    clause: str = ""

    @property
    def row(self) -> ActRow:
        """The act's row of the table."""
        return ROWS[self.kind]

    @property
    def sentence(self) -> str:
        """What will be done and under which clause, as it is read out."""
        return f"{self.row.sentence_of(dict(self.settings))} Clause {self.clause}."

    @property
    def confirmation(self) -> str:
        """What must be typed, letter by letter, before it is done."""
        return f"{self.kind.value} {self.text(self.row.subject)}" if self.row.subject else self.kind.value

    def has(self, field: str) -> bool:
        """Whether the file sets the field."""
        return any(name == field for name, _ in self.settings)

    def text(self, field: str) -> str:
        """Give a field of text; KeyError where the file does not set it."""
        return str(dict(self.settings)[field])

    def number_of(self, field: str) -> int:
        """Give a field that is a number; KeyError where the file does not set it."""
        return int(str(dict(self.settings)[field]))
