"""What all contents under agreed keys share: the Device at the other end, and what its keys have to do.

A Command gets a tag, so does a prepayment token; a Response or Alert gets one again, to be compared; a Response has
attributes to decrypt, each a task of its own under one key.

Example:
    >>> taken(content, [tag])  # of a Command: the first twelve octets of sixteen
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptosvc.core.content.base import Content
from cryptosvc.core.content.gbcs.agreement import TAG_OCTETS, Agreement
from cryptosvc.core.content.gbcs.top_up import AUTHENTICATION_OCTETS
from cryptosvc.core.content.x509.identity import CertificateFacts
from cryptosvc.core.errors import WrongState
from cryptosvc.core.names import ContentKind, UnixNanoseconds

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do under one agreed key.

    Args:
        agreement: what the key is agreed over.
        additional: additional authenticated data.
        ciphertext, tag: what is to be decrypted, and its tag; both empty for a GMAC.

    """

    agreement: Agreement
    additional: bytes
    ciphertext: bytes = b""
    tag: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedContent(Content):
    """A content whose key is agreed with a Device.

    Args:
        device: what the Device's certificate says; keys are agreed with its point.
        tasks: at least one.

    """

    device: CertificateFacts
    tasks: tuple[Task, ...]


def taken(content: AgreedContent, made: Sequence[bytes]) -> bytes:
    """What of the module's answers is the result: the tag as GBCS cuts it, or the plaintexts, one after the other.

    Args:
        content: whose tasks were done.
        made: one answer per task: the whole tag, 16 octets, or a plaintext.

    """
    if content.kind is ContentKind.ENCRYPTED_ATTRIBUTES:
        return b"".join(made)
    if content.kind is ContentKind.TOP_UP:
        return made[0][-AUTHENTICATION_OCTETS:]
    return made[0][:TAG_OCTETS]


def result_octets(content: AgreedContent) -> int:
    """How long that is."""
    if content.kind is ContentKind.ENCRYPTED_ATTRIBUTES:
        return sum(len(task.ciphertext) for task in content.tasks)
    return AUTHENTICATION_OCTETS if content.kind is ContentKind.TOP_UP else TAG_OCTETS


def require_all_in_force(
    certificates: Iterable[tuple[CertificateFacts | None, str, str]], at: UnixNanoseconds, clause: str
) -> None:
    """Require that certificates are valid now: each with whose it is, in words, and the field it came in.

    Raises:
        WrongState: one is not.

    """
    for facts, whose, field in certificates:
        if facts is not None and not facts.not_before <= at < facts.not_after + _SECOND:
            raise WrongState(
                f"{whose} certificate is not valid now", rule="gbcs/not-in-force", clause=clause, field=field
            )
