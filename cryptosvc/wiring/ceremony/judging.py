"""`ceremony check | diff | verify`: judged on paper, off-line, on any machine."""

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core import checkpoint as notes
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony import printed, verdict
from cryptosvc.core.ceremony import transcript as transcripts
from cryptosvc.core.ceremony.difference import Difference, compare, require_as_rehearsed
from cryptosvc.core.errors import Malformed


def check(file: Path) -> tuple[str, dict[str, JsonValue]]:
    """Walk a ceremony on paper: the plan as Markdown, and a summary.

    Raises:
        Malformed: as `read_ceremony`.

    """
    ceremony = read_ceremony(file)
    script = ceremony.script
    return printed.script_markdown(script), {
        "sound": True,
        "title": script.title,
        "sha256": ceremony.sha256,
        "environment": script.environment.value,
        "system": script.system,
        "acts": len(script.acts),
        "people": sum(number for _, number in script.people),
    }


def diff(rehearsal: Path, real: Path) -> tuple[str, dict[str, JsonValue], Callable[[], None]]:
    """Lay two transcripts beside each other.

    Returns:
        The page, the document, and what raises Corrupt where the real one did otherwise.

    Raises:
        Malformed, Corrupt: as `transcript.parse` and `difference.compare`.

    """
    found = compare(transcripts.parse(_read(rehearsal)), transcripts.parse(_read(real)))
    document: dict[str, JsonValue] = {
        "as_rehearsed": not found.others,
        "interruptions": [
            {"after": one.after, "begun_again": one.again, "reason": one.reason, "by": one.by, "at": one.at}
            for one in found.interruptions
        ],
        "others": [_difference(one) for one in found.others],
        "by_nature": [_difference(one) for one in found.by_nature],
    }
    return printed.differences_markdown(found), document, lambda: require_as_rehearsed(found)


def verify(transcript: Path, people: Path, log_key: Path | None) -> dict[str, JsonValue]:
    """Judge a transcript.

    Args:
        transcript: the machine-readable file.
        people: folder of public keys, NAME.pem.
        log_key: PEM of the log's public key; None for a rehearsal.

    Raises:
        Malformed, Corrupt, Forbidden: as `verdict.verify`.

    """
    octets = _read(transcript)
    keys = {path.stem: _spki(path) for path in sorted(people.glob("*.pem"))}
    log = None
    if log_key is not None:
        note = transcripts.parse(octets).header.checkpoint
        log = verdict.LogKey(notes.parse(note.encode()).checkpoint.origin, _spki(log_key))
    found = verdict.verify(octets, keys, log)
    return {
        "title": found.script.title,
        "script_sha256": found.script_sha256,
        "mode": found.mode.value,
        "outcome": found.outcome.value,
        "steps": found.steps,
        "interruptions": found.interruptions,
        "signed_by": list(found.signed_by),
        "head": found.head,
        "log_checked": found.log_checked,
    }


def _difference(one: Difference) -> JsonValue:
    return {"where": one.where, "rehearsal": one.rehearsal, "real": one.real, "why": one.why}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}", rule="config/unreadable") from None


def _spki(path: Path) -> bytes:
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed(f"{path} is no PEM public key", rule="config/public-key") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
