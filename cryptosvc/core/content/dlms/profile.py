"""What stays configuration of SMETS1 Devices: our own system titles, which Devices are of which Category, what adds credit.

The SMETS1 Supporting Requirements, which say all of this, were not found in public sources; the operator sets it. Without
a system title nothing is protected and nothing is read.

Example:
    >>> profile = Smets1Profile(frozenset({bytes(8)}), (Model("maker", "m1", "1.0", category_1=True),))
    >>> profile.model_of("maker", "m1", "1.0").category_1
    True

"""

from dataclasses import dataclass

from cryptosvc.core.content.dlms.apdu import Item, Read

ADD_CREDIT = (Item("action", 115, "0-0:19.40.0.255", 1),)
"""`enter` of the token gateway (DLMS UA 1000-1, Blue Book, class 115), which GBCS adds credit with too (CS01a)."""

ASSOCIATION_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Model:
    """Devices of one manufacturer, model and firmware, and what the Code lets for them.

    Args:
        manufacturer, model, firmware: as the keys of such Devices were imported with.
        category_1: a Category 1 Device for the purposes of G2.44A(b).
        category_2: a Category 2 Device for the purposes of G2.44A(c).
        titled_by_eui64: its system title is its EUI-64, and no other is taken for its.

    """

    manufacturer: str
    model: str
    firmware: str
    category_1: bool = False
    category_2: bool = False
    titled_by_eui64: bool = False


@dataclass(frozen=True, slots=True)
class Smets1Profile:
    """The configured tables.

    Args:
        system_titles: our own, 8 octets each: what we protect is under one of them, what we read is under none.
        models: one for each manufacturer, model and firmware; a Device of none is of no Category.
        add_credit: what a Command touches that adds credit (G2.44A(a)).
        association_seconds: how long an Application Association lasts at most, and its dedicated key with it.

    """

    system_titles: frozenset[bytes] = frozenset()
    models: tuple[Model, ...] = ()
    add_credit: tuple[Item, ...] = ADD_CREDIT
    association_seconds: int = ASSOCIATION_SECONDS

    def model_of(self, manufacturer: str, model: str, firmware: str) -> Model:
        """The row of a Device; one of no Category where there is none."""
        for row in self.models:
            if (row.manufacturer, row.model, row.firmware) == (manufacturer, model, firmware):
                return row
        return Model(manufacturer, model, firmware)

    def adds_credit(self, read: Read) -> bool:
        """Whether a request adds credit and does nothing else."""
        return bool(read.items) and all(item in self.add_credit for item in read.items)
