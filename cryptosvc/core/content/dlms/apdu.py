"""Plaintext xDLMS requests to a Device, read to the last octet or refused.

    C0 01 invoke descriptor(9) selection             get
    C0 02 invoke block(4)                            get, the next block
    C0 03 invoke count, count × (descriptor selection)
    C1 01 invoke descriptor(9) selection datum       set
    C1 04 invoke count, count × (descriptor selection), count, count × datum
    C3 01 invoke descriptor(9) (00 | 01 datum)       action
    C3 02 invoke block(4)                            action, the next block of what it answers
    C3 03 invoke count, count × descriptor(9), count, count × datum
    D9 long-invoke(4) length date-time, count, count × specification, count, count × datum

A descriptor is class(2) OBIS(6) attribute or method(1); a selection is 00, or 01 selector(1) datum. Requests whose data
come in blocks are refused: what they ask for cannot be read from one of them.

Example:
    >>> read(bytes.fromhex("c0010000080000010000ff0200")).items
    (Item(what='get', class_id=8, obis='0-0:1.0.0.255', number=2),)

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.5; A-XDR, IEC 61334-6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptosvc.core.content.gbcs import dlms, framing
from cryptosvc.core.errors import Malformed

GET, SET, ACTION, ACCESS = 0xC0, 0xC1, 0xC3, 0xD9
NAMES: Mapping[int, str] = {
    GET: "get-request",
    SET: "set-request",
    ACTION: "action-request",
    ACCESS: "access-request",
}
_NORMAL, _NEXT, _WITH_LIST, _SET_WITH_LIST = 1, 2, 3, 4
_DESCRIPTOR_OCTETS = 9
_BLOCK_NUMBER_OCTETS = 4
_LONG_INVOKE_OCTETS = 4
_DATE_TIME_OCTETS = (0, 12)
_SPECIFICATIONS: Mapping[int, tuple[str, bool]] = {
    1: ("get", False),
    2: ("set", False),
    3: ("action", False),
    4: ("get", True),
    5: ("set", True),
}
"""Choice of an access-request → what is done, and whether a selection follows."""
_CHOICES = range(1, 7)
_FIELD = "dlms_request"


@dataclass(frozen=True, slots=True)
class Item:
    """One attribute or method that a request touches.

    Args:
        what: `get`, `set` or `action`.
        class_id: of the COSEM object.
        obis: its logical name, as `0-0:19.40.0.255`.
        number: of the attribute or method.

    """

    what: str
    class_id: int
    obis: str
    number: int

    def __str__(self) -> str:
        return f"{self.what} {self.class_id}/{self.obis}/{self.number}"


@dataclass(frozen=True, slots=True)
class Read:
    """A request that was read completely.

    Args:
        tag: `GET`, `SET`, `ACTION` or `ACCESS`.
        items: what it touches; none where it asks for the next block of an answer.

    """

    tag: int
    items: tuple[Item, ...]


def read(apdu: bytes) -> Read:
    """Read one request.

    Raises:
        Malformed: it is not one, completely; rules begin with `dlms/`.

    """
    reader = _READERS.get(apdu[0] if apdu else 0)
    if reader is None:
        raise wrong("only get, set, action and access requests are protected for a Device", "not-a-request")
    cursor = _Cursor(apdu)
    cursor.octets(1)
    try:
        items = reader(cursor)
    except Malformed as error:
        if error.rule.startswith("dlms/"):
            raise
        # the reader of data is that of GBCS messages
        raise wrong("the request has a datum that cannot be read completely", "datum") from None
    if not cursor.at_end:
        raise wrong("octets follow the end of the request", "trailing")
    return Read(apdu[0], items)


def resembles(octets: bytes) -> bool:
    """Whether octets begin as a request does, readable here or not: nothing of the kind is answered as a challenge."""
    if octets[:1] == bytes((ACCESS,)):
        return octets[1 + _LONG_INVOKE_OCTETS : 2 + _LONG_INVOKE_OCTETS] in (b"\x00", b"\x0c")
    return octets[:1] in (bytes((GET,)), bytes((SET,)), bytes((ACTION,))) and octets[1:2] in map(
        _octet, _CHOICES
    )


def wrong(message: str, rule: str, field: str = _FIELD) -> Malformed:
    """Make the refusal of what is no request."""
    return Malformed(message, rule=f"dlms/{rule}", field=field)


def _octet(number: int) -> bytes:
    return bytes((number,))


class _Cursor:
    """Where a reader is in a request."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._octets)

    def octets(self, count: int) -> bytes:
        taken = self._octets[self._at : self._at + count]
        if len(taken) != count:
            raise wrong("the request ends too early", "truncated")
        self._at += count
        return taken

    def octet(self) -> int:
        return self.octets(1)[0]

    def count(self, each_octets: int) -> int:
        """A count of things of which each takes at least so many octets; at least one."""
        found, self._at = framing.length(self._octets, self._at, len(self._octets))
        if not 0 < found <= (len(self._octets) - self._at) // each_octets:
            raise wrong("a list has at least one element, and all of them", "count")
        return found

    def datum(self) -> None:
        self._at = dlms.step_over(self._octets, self._at, len(self._octets))

    def item(self, what: str) -> Item:
        octets = self.octets(_DESCRIPTOR_OCTETS)
        a, b, c, d, e, f = octets[2:8]
        return Item(what, int.from_bytes(octets[:2]), f"{a}-{b}:{c}.{d}.{e}.{f}", octets[8])

    def present(self) -> bool:
        """An optional part: 00 absent, 01 present."""
        flag = self.octet()
        if flag > 1:
            raise wrong("an optional part is marked 00 or 01", "optional")
        return bool(flag)

    def selection(self) -> None:
        if self.present():
            self.octet()
            self.datum()


def _get(cursor: _Cursor) -> tuple[Item, ...]:
    choice = cursor.octet()
    cursor.octet()  # invoke-id and priority
    if choice == _NORMAL:
        item = cursor.item("get")
        cursor.selection()
        return (item,)
    if choice == _NEXT:
        cursor.octets(_BLOCK_NUMBER_OCTETS)
        return ()
    if choice == _WITH_LIST:
        return tuple(_selected(cursor, "get") for _ in range(cursor.count(_DESCRIPTOR_OCTETS + 1)))
    raise _choice()


def _set(cursor: _Cursor) -> tuple[Item, ...]:
    choice = cursor.octet()
    cursor.octet()
    if choice == _NORMAL:
        item = _selected(cursor, "set")
        cursor.datum()
        return (item,)
    if choice == _SET_WITH_LIST:
        items = tuple(_selected(cursor, "set") for _ in range(cursor.count(_DESCRIPTOR_OCTETS + 1)))
        _data(cursor, len(items))
        return items
    raise _choice()


def _action(cursor: _Cursor) -> tuple[Item, ...]:
    choice = cursor.octet()
    cursor.octet()
    if choice == _NORMAL:
        item = cursor.item("action")
        if cursor.present():
            cursor.datum()
        return (item,)
    if choice == _NEXT:
        cursor.octets(_BLOCK_NUMBER_OCTETS)
        return ()
    if choice == _WITH_LIST:
        items = tuple(cursor.item("action") for _ in range(cursor.count(_DESCRIPTOR_OCTETS)))
        _data(cursor, len(items))
        return items
    raise _choice()


def _access(cursor: _Cursor) -> tuple[Item, ...]:
    cursor.octets(_LONG_INVOKE_OCTETS)
    size = cursor.octet()
    if size not in _DATE_TIME_OCTETS:
        raise wrong("a date-time has 12 octets, or none", "date-time")
    cursor.octets(size)
    items: list[Item] = []
    for _ in range(cursor.count(_DESCRIPTOR_OCTETS + 1)):
        found = _SPECIFICATIONS.get(cursor.octet())
        if found is None:
            raise _choice()
        items.append(cursor.item(found[0]))
        if found[1]:
            cursor.octet()
            cursor.datum()
    _data(cursor, len(items))
    return tuple(items)


def _selected(cursor: _Cursor, what: str) -> Item:
    item = cursor.item(what)
    cursor.selection()
    return item


def _data(cursor: _Cursor, items: int) -> None:
    if cursor.count(1) != items:
        raise wrong("a request has one datum for each thing it touches", "count")
    for _ in range(items):
        cursor.datum()


def _choice() -> Malformed:
    return wrong(
        "this kind of request is not protected: data in blocks cannot be read from one of them", "choice"
    )


_READERS: Mapping[int, Callable[[_Cursor], tuple[Item, ...]]] = {
    GET: _get,
    SET: _set,
    ACTION: _action,
    ACCESS: _access,
}
