"""`scripts/verify_log.py`, imported from its file, and what it may leave to the first verifier.

rule_of(octets, public_key, kept)   the rule that does not hold, or an empty text
agreeing(verify)                    the first verifier, held against the second each time it is called
"""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cryptosvc.core.errors import CryptosvcError

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "verify_log.py"
_found = importlib.util.spec_from_file_location("verify_log", SCRIPT)
assert _found
assert _found.loader
verify_log = importlib.util.module_from_spec(_found)
_found.loader.exec_module(verify_log)

LEFT_TO_THE_FIRST = {
    "export/use-of-unknown-key",
    "export/use-in-state",
    "export/usage-limit",
    "export/record-leaf",
    "genesis/entry",
}
"""Rules about what a log was signed over; and `replay/…`, which needs the table of acts."""

V = TypeVar("V")


def rule_of(octets: bytes, public_key: ec.EllipticCurvePublicKey, kept: str = "") -> str:
    """Verify an export or a bundle; the rule by which it fails, or empty where everything holds."""
    try:
        verify_log.verify(io.BytesIO(octets), public_key, kept)
    except verify_log.Broken as broken:
        return str(broken)
    return ""


ANOTHER_ENTRY = {"export/root", "merkle/inclusion"}


def same(first: str, second: str) -> bool:
    """Whether the two verifiers may say this of one file.

    The first looks at what an entry says before it looks where it is, and names what contradicts itself there. To the
    second, which leaves that to the first, it is another entry than was signed; or nothing is wrong, where it was signed
    like that.
    """
    left = first in LEFT_TO_THE_FIRST or first.startswith("replay/") or first == "export/entry"
    return second == first or (left and (not second or second in ANOTHER_ENTRY))


def agreeing(verify: Callable[..., V]) -> Callable[..., V]:
    """Wrap a verifier of a path and a public key (DER), so that each call asks the second one as well."""

    def both(path: Path, public_key_der: bytes, **more: object) -> V:
        key = load_der_public_key(public_key_der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        second, failed = rule_of(path.read_bytes(), key), None
        try:
            return verify(path, public_key_der, **more)
        except CryptosvcError as error:
            failed = error.rule
            raise
        finally:
            of_origin = "checkpoint/origin" in {
                failed,
                second,
            }  # the second takes no other than the file's own
            assert same(failed or "", second) or (of_origin and "origin" in more), (failed, second)

    return both
