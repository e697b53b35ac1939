"""Which standards a Cryptographic Module may be validated under, and on which days (G1.3, G2.44, G3.22).

The Code asks for FIPS 140-2 Level 3 "or any equivalent which updates or replaces it". G1.3 lets the Panel set the
day from which the successor alone counts; until that day both do. So the table is configuration, row by row dated;
the level is a fact of its own and policy decides on it.

Example:
    >>> table = AssuranceProfile((AcceptedStandard("FIPS 140-2", accepted_from=0),))
    >>> table.accepts("FIPS 140-2", UnixNanoseconds(1))
    True

"""

from dataclasses import dataclass, field

from cryptosvc.core.names import UnixNanoseconds


@dataclass(frozen=True, slots=True)
class AcceptedStandard:
    """One row.

    Args:
        standard: as module assurance statements spell it, `FIPS 140-2`.
        accepted_from: first instant at which it counts, nanoseconds since 1970.
        accepted_until: first instant at which it no longer counts; None while the Panel has set no day.

    """

    standard: str
    accepted_from: int
    accepted_until: int | None = None


@dataclass(frozen=True, slots=True)
class AssuranceProfile:
    """The configured table. An empty one accepts no module, so nothing is signed in environment live.

    Args:
        rows: any order; several rows of one standard are several periods.

    """

    rows: tuple[AcceptedStandard, ...] = ()
    _by_standard: dict[str, tuple[AcceptedStandard, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_standard: dict[str, tuple[AcceptedStandard, ...]] = {}
        for row in self.rows:
            by_standard[row.standard] = (*by_standard.get(row.standard, ()), row)
        object.__setattr__(self, "_by_standard", by_standard)

    def accepts(self, standard: str, at: UnixNanoseconds) -> bool:
        """Whether a module validated under `standard` counts at that instant; an unknown standard never does."""
        return any(
            row.accepted_from <= at and (row.accepted_until is None or at < row.accepted_until)
            for row in self._by_standard.get(standard, ())
        )
