"""Which standards a Cryptographic Module may be validated under, and on which days (G1.3, G2.44, G3.22).

The Code asks for FIPS 140-2 Level 3 "or any equivalent which updates or replaces it". G1.3 lets the Panel set the
day from which the successor alone counts; until that day both do. So the table is configuration, row by row dated;
the level is a fact of its own and policy decides on it.

What G2.44 does not name is processed in modules "established in accordance with its Information Classification
Scheme" (G2.45; G3.22 for a User). That scheme is configuration too: from the classification of a key in the asset
register (G5.6, G5.21) to the modules it may be in. It can ask for more than level 3 and never for less.

Example:
    >>> table = AssuranceProfile((AcceptedStandard("FIPS 140-2", accepted_from=0),))
    >>> table.accepts("FIPS 140-2", UnixNanoseconds(1))
    True

"""

from dataclasses import dataclass, field

from cryptosvc.core.names import ModuleName, UnixNanoseconds


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


LEAST_LEVEL = 3
"""What every key class asks for (`core/keyclass.py`), whatever its classification."""


@dataclass(frozen=True, slots=True)
class Classified:
    """One row of the Information Classification Scheme.

    Args:
        classification: as the asset register spells it.
        level: lowest assurance level of the module, 3 or 4.
        modules: names of the modules established for it; empty where any of that level is.

    """

    classification: str
    level: int = LEAST_LEVEL
    modules: frozenset[ModuleName] = frozenset()


@dataclass(frozen=True, slots=True)
class AssuranceProfile:
    """The configured tables. Without a standard no module is accepted, so nothing is signed in environment live.

    Args:
        rows: any order; several rows of one standard are several periods.
        scheme: one row per classification; empty where every classification asks for level 3 and nothing else.
        exempt_level: lowest level where G2.44A lets a SMETS1 Service Provider do without level 3; the scheme's modules
            stay those of the classification.

    """

    rows: tuple[AcceptedStandard, ...] = ()
    scheme: tuple[Classified, ...] = ()
    exempt_level: int = LEAST_LEVEL
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

    def establishes(
        self, classification: str, module: ModuleName, level: int, *, exempt: bool = False
    ) -> bool:
        """Whether the scheme has the module for assets of that classification; one it does not know has none.

        `exempt`: for what G2.44A exempts, where `exempt_level` takes the place of every level.
        """
        if not self.scheme:
            return level >= (self.exempt_level if exempt else LEAST_LEVEL)
        return any(
            level >= (self.exempt_level if exempt else max(row.level, LEAST_LEVEL))
            and (not row.modules or module in row.modules)
            for row in self.scheme
            if row.classification == classification
        )
