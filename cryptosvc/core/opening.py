"""A use as it is known when its key is claimed, printed once: whatever its end turns out to be is put in later.

`core/record.py` says what is in an entry; this is the same entry, cut where its outcome and its result (or the rule
that did not hold) will stand, so that the end of a use costs a joining of octets. The salts of what it withholds are
drawn then and stand in it from the start.

Example:
    opening = opened(authorised, scope, salt)       # when it is claimed
    leaf = opening.signed(result_digest)            # when it is done
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import orjson

from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.errors import CryptosvcError
from cryptosvc.core.judge import Authorised
from cryptosvc.core.record import SALT_OCTETS, Leaf, Scope, opening
from cryptosvc.core.values import quickly

_sha256 = hashlib.sha256
_leaf = quickly(Leaf)
_PERMITTED = b'"decision":"permit",'
_OUTCOME = b'"outcome":null,'
_RESULT = b'"result_digest":null,'
_SLOTS: dict[str, JsonValue] = {"outcome": None, "result_digest": None}
_names: dict[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Opening:
    """An entry but for its end.

    Args:
        before: its canonical JSON up to where `outcome` stands.
        between: from there to where `result_digest` or `rule` stands.
        after: the rest.
        withheld: what stands beside the entry, as in `Leaf`.

    """

    before: bytes
    between: bytes
    after: bytes
    withheld: bytes

    def signed(self, result_digest: bytes, derivation: str = "") -> Leaf:
        """The leaf, with a checked result; of a MAC it says where the key was derived."""
        result = result_digest.hex().encode()
        before = self.before
        if (
            derivation
        ):  # names before it are of hex, clauses and kinds: its place is behind the first decision
            head, decision, tail = before.partition(_PERMITTED)
            before = b'%b%b"derivation":%b,%b' % (head, decision, orjson.dumps(derivation), tail)
        return _leaf(
            b'%b"outcome":"signed",%b"result_digest":"%b",%b' % (before, self.between, result, self.after),
            self.withheld,
        )

    def failed(self, error: CryptosvcError) -> Leaf:
        """The leaf, without a result: outcome is the error's reason in lower case."""
        outcome, rule = orjson.dumps(error.reason.value.lower()), orjson.dumps(error.rule)
        return _leaf(
            b'%b"outcome":%b,%b"rule":%b,%b' % (self.before, outcome, self.between, rule, self.after),
            self.withheld,
        )

    def emit(self) -> bytes:
        """Print it for whoever has to end it instead: a JSON object of the entry and what stands beside it."""
        return b'{"entry":%b%b%b,"withheld":%b}' % (self.before, self.between, self.after, self.withheld)

    @classmethod
    def of_document(cls, document: Mapping[str, JsonValue]) -> Self:
        """Read what `emit` printed, as parsed."""
        entry = cast("Mapping[str, JsonValue]", document["entry"])
        withheld = cast("Mapping[str, JsonValue]", document["withheld"])
        return cls(*_cut({**entry, **_SLOTS}), canonical(withheld))


_opening = quickly(Opening)


def opened(authorised: Authorised, scope: Scope, salt: bytes) -> tuple[Opening, bytes]:
    """Print the opening of a use; it and the digest of its payload, 32 octets.

    Args:
        authorised: what was decided.
        scope: of the worker.
        salt: 16 fresh random octets; each withheld field gets its own from it, as in `record.sealed`.

    """
    entry = opening(authorised, scope)
    withheld = cast("dict[str, str]", entry.pop("_withheld"))
    commitments: dict[str, JsonValue] = {}
    beside: dict[str, JsonValue] = {}
    salts = hashlib.shake_128(salt).digest(SALT_OCTETS * len(withheld))
    at = 0
    for name, value in withheld.items():
        own = salts[at : at + SALT_OCTETS]
        at += SALT_OCTETS
        # as `commitments.commitment`, with the name encoded once
        between = _names.get(name) or _names.setdefault(name, b"\x00%b\x00" % name.encode())
        commitments[name] = _sha256(own + between + value.encode()).hexdigest()
        beside[name] = (own.hex(), value)
    digest = bytes.fromhex(cast("str", entry["payload_digest"]))
    entry["commitments"] = commitments
    entry["outcome"] = entry["result_digest"] = None
    return _opening(*_cut(entry), canonical(beside)), digest


def _cut(entry: Mapping[str, JsonValue]) -> tuple[bytes, bytes, bytes]:
    # inside a string the quotes would be escaped, and no member of an entry but these is null
    before, _, rest = canonical(entry).partition(_OUTCOME)
    between, _, after = rest.partition(_RESULT)
    return before, between, after
