"""Acts that stand on paper and that this version does not do: refused when a file is checked, before anybody meets."""

from collections.abc import Mapping

from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.rows import ActKind
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.errors import Forbidden

_VENDOR = (
    "in live a key is {done} by the module vendor's own quorum only, since PKCS#11 has none; this version neither "
    "records the evidence of that nor does it in test"
)

UNSUPPORTED: Mapping[ActKind, str] = {
    ActKind.BACK_UP: "back up with the module's own procedure, and attest it: PKCS#11 has none that could be relied on",
    ActKind.SPLIT_KEY: _VENDOR.format(done="split"),
    ActKind.RECOMBINE_KEY: _VENDOR.format(done="put together"),
}
"""Acts that a file may name and that are refused before the ceremony begins → why, and what to do."""


def require_supported(script: Script) -> None:
    """Refuse a plan with such an act: Forbidden `ceremony/unsupported`, naming it."""
    for act in script.acts:
        if act.kind in UNSUPPORTED:
            raise _unsupported(act)


def _unsupported(act: Act) -> Forbidden:
    """Refuse an act of the table that this version does not do."""
    return Forbidden(
        f"act {act.number}, {act.kind.value}: {UNSUPPORTED[act.kind]}",
        rule="ceremony/unsupported",
        clause=act.clause or "G5.13(a)",
        field=f"acts.{act.number - 1}.act",
    )
