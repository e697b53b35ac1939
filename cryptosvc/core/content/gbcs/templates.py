"""What each critical GBZ use case may carry: cluster, command, length, and the values that never change.

One line per component a use case may have: cluster, frame control, command, then the ZCL payload octet by octet as it
stands on the wire (little-endian fields), `..` for an octet that may be anything, `*` at the end where more may
follow; `dated` first where a From Date Time stands before the ZCL header. The first word of a use case bounds the
number of components.

Constants are held where samples of the use case, or of one with the same ZCL command, confirmed them; elsewhere
(006B, 006F, 0070, 007C, 007E) command, cluster and length are held. 007D (GCS24, withdrawn) is in no source: any
well-formed GBZ payload is read unless it changes the supply; who may sign it is held as for the others.

Source: GBCS "GBZ Message Templates"; Reference Test Data Set 4.5.0.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from cryptosvc.core.content.gbcs.gbz import Grammar, Template

_TARIFF_INFORMATION = (
    "0700 09 04 00000000 ........ 01000000 ........ .. 00 .. .. 00 .... 50 ........ FF 010000 E80300"
)
_PRICE_MATRIX = "0700 09 05 00000000 ........ ........ 01000000 00 01 .. *"
_CALENDAR = (
    "0707 09 00 ........ ........ ........ ........ .. .. .. .. .. ..",  # publish calendar
    "0707 09 01 ........ ........ ........ .. .. .. .. .. *",  # publish day profile
    "0707 09 02 ........ ........ ........ .. .. .. .. .. .. .. ..",  # publish week profile
    "0707 09 03 ........ ........ ........ .. .. *",  # publish seasons
    "0707 09 04 ........ ........ ........ ........ .. .. .. .. *",  # publish special days
)
_BILLING_PERIOD = "0700 09 09 00000000 ........ ........ ...... .. 00"
_BLOCK_PERIOD = "0700 09 01 00000000 ........ ........ ...... 02 .. 00 01"

_USE_CASES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        # GCS01a set tariff and price
        0x006B: (
            "1-255",
            *_CALENDAR,
            "0700 09 04 ........ ........ ........ ........ .. .. .. .. .. .... .. ........ .. ...... ......",
            "0700 09 06 ........ ........ ........ ........ .. .. .. *",
            "0700 09 05 ........ ........ ........ ........ .. .. .. *",
        ),
        # GCS02 payment mode credit; GCS03 payment mode prepayment
        0x006C: ("1-1", "0705 01 06 00000000 ........ ........ 940C FFFFFFFF"),
        0x006D: ("1-1", "0705 01 06 00000000 ........ ........ 97.. ........"),
        # GCS04 manage debt: time debt 1, time debt 2, payment debt
        0x006E: (
            "3-3",
            "0705 01 02 ........ 00 ........ 00 01 00000000 0000 .. ........ 0000",
            "0705 01 02 ........ 00 ........ 00 03 00000000 0000 .. ........ 0000",
            "0705 01 02 ........ 00 ........ 01 05 00000000 0000 01 00000000 ....",
        ),
        # GCS05 prepayment configuration
        0x006F: (
            "1-255",
            "0705 01 03 ........ ........ ........ ........",  # emergency credit set-up
            "0705 01 0C ........ ........ ........ ........",  # overall debt cap
            "dated 0705 01 09 ........",  # low credit warning level
            "0705 01 0B ........ ........ ........ ........ ........",  # maximum credit limit
            *_CALENDAR,
        ),
        # GCS06 activate emergency credit
        0x0070: ("1-1", "0705 01 00 ........ .."),
        # GCS23 conversion factor and calorific value
        0x007C: (
            "1-255",
            "0700 09 02 ........ ........ ........ ..",
            "0700 09 03 ........ ........ ........ .. ..",
        ),
        # GCS25 and GCS25a billing calendar
        0x007E: (
            "1-255",
            "0700 09 09 ........ ........ ........ ...... .. ..",
            "0700 09 01 ........ ........ ........ ...... .. .. .. ..",
        ),
        0x00D8: ("2-2", _BILLING_PERIOD, _BLOCK_PERIOD),
        # GCS32 close the valve; GCS39 arm it: Change Supply, at once, to status 00 or 01, acknowledged
        0x0081: ("1-1", "0702 01 0B 00000000 ........ 00000000 00000000 00 01"),
        0x0085: ("1-1", "0702 01 0B 00000000 ........ 00000000 00000000 01 01"),
        # GCS40a to GCS40d meter balance: adjust or reset, prepayment or credit mode
        0x0086: ("1-1", "0705 01 05 ........ 00000000 00 ........"),
        0x00B4: ("1-1", "0705 01 05 ........ 00000000 01 00000000"),
        0x00C0: ("1-1", "0705 01 05 ........ 00000000 03 ........"),
        0x00C2: ("1-1", "0705 01 05 ........ 00000000 02 00000000"),
        # GCS01b set price
        0x00A3: ("2-2", _TARIFF_INFORMATION, _PRICE_MATRIX),
        # GCS24a uncontrolled flow and supply tamper state
        0x00FC: (
            "2-2",
            "0702 01 0E 00000000 ........ .... 01 0100 1027 .. ....",
            "0702 01 0D ........ .. .. 00 03",
        ),
    }
)


def _runs(pattern: str) -> Iterator[tuple[int, bytes]]:
    """The stretches of an octet pattern that are not `..`."""
    octets = [pattern[at : at + 2] for at in range(0, len(pattern), 2)]
    at = 0
    while at < len(octets):
        start = at
        while at < len(octets) and octets[at] != "..":
            at += 1
        if at > start:
            yield start, bytes.fromhex("".join(octets[start:at]))
        at += 1


def _grammar(bounds: str, *lines: str) -> Grammar:
    templates: dict[bytes, tuple[Template, ...]] = {}
    for line in lines:
        words = line.split()
        dated = words[0] == "dated"
        cluster, frame_control, command, *zcl = words[1:] if dated else words
        open_ended = bool(zcl) and zcl[-1] == "*"
        pattern = "".join(zcl[:-1] if open_ended else zcl)
        key = bytes.fromhex(cluster + frame_control + command)
        template = Template(dated, len(pattern) // 2, open_ended, tuple(_runs(pattern)))
        templates[key] = (*templates.get(key, ()), template)
    fewest, most = bounds.split("-")
    return Grammar(int(fewest), int(most), MappingProxyType(templates))


GRAMMARS: Mapping[int, Grammar] = MappingProxyType(
    {code: _grammar(*lines) for code, lines in _USE_CASES.items()}
)
"""Message code → what its GBZ payload may carry; a code that is not here is read as any GBZ payload."""
