"""docs/log-format.md is enough to write a verifier from: one that was says the same as ours, of a real log."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.adapters.export import verify_export
from cryptosvc.core.errors import CryptosvcError
from tests import log_verifier, second_verifier
from tests.log_verifier import printed, rule_of, signed_note

pytestmark = pytest.mark.xdist_group("quickstart")

Change = Callable[[list[bytes], list[bytes]], None]
"""Changes the lines before the entries, and the entries."""


def _key(quickstart) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key((quickstart.folder / "log.pub.pem").read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _ours(path: Path, key: ec.EllipticCurvePublicKey) -> str:
    try:
        verify_export(path, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), processes=1)
    except CryptosvcError as error:
        return error.rule
    return ""


def _first(lines: list[bytes], part: bytes | tuple[bytes, ...]) -> int:
    parts = (part,) if isinstance(part, bytes) else part
    return next(number for number, line in enumerate(lines) if all(each in line for each in parts))


def _in_line(where: int, part: bytes | tuple[bytes, ...], old: bytes, new: bytes) -> Change:
    """Change the first line with `part`, before the entries (0) or among them (1)."""

    def change(*lines: list[bytes]) -> None:
        number = _first(lines[where], part)
        assert old in lines[where][number]
        lines[where][number] = lines[where][number].replace(old, new, 1)

    return change


IN_FORCE = (b'"key":"log-audit"', b'"kind":"key-record","operation":"change"')
"""What the entry says that has the record the audit key is used under: its first that changes."""


def _undocumented(*replaced: tuple[bytes, bytes]) -> Change:
    """Change the entry of the audit key's record that is in force, and drop the document that would tell."""

    def change(_: list[bytes], entries: list[bytes]) -> None:
        number = _first(entries, IN_FORCE)
        entry = entries[number].partition(b"\t")[0]
        for old, new in replaced:
            assert old in entry
            entry = entry.replace(old, new, 1)
        entries[number] = entry + b"\t"

    return change


def _without(where: int, part: bytes) -> Change:
    def change(*lines: list[bytes]) -> None:
        del lines[where][_first(lines[where], part)]

    return change


def _no_checkpoints(before: list[bytes], _: list[bytes]) -> None:
    before[:] = [line for line in before if not line.startswith(b'{"checkpoint"')]


def _oldest_checkpoint_only(before: list[bytes], _: list[bytes]) -> None:
    notes = [line for line in before if line.startswith(b'{"checkpoint"')]
    oldest = min(notes, key=lambda line: int(json.loads(line)["checkpoint"].split("\n")[1]))
    assert len(notes) > 1
    before[:] = [line for line in before if line not in notes or line == oldest]


def _swapped(_: list[bytes], entries: list[bytes]) -> None:
    entries[-1], entries[-2] = entries[-2], entries[-1]


def _twice(before: list[bytes], entries: list[bytes]) -> None:
    entries.insert(5, entries[5])
    before[0] = before[0].replace(b'"size":%d' % (len(entries) - 1), b'"size":%d' % len(entries))


def _redacted(_: list[bytes], entries: list[bytes]) -> None:
    number = _first(entries, b'"kind":"caller-record"')
    entries[number] = entries[number].partition(b"\t")[0] + b"\t"


def _all_of_a_use_redacted(_: list[bytes], entries: list[bytes]) -> None:
    number = _first(entries, b'"kind":"use"')
    entries[number] = entries[number].partition(b"\t")[0] + b"\t"


def _shorter(_: list[bytes], entries: list[bytes]) -> None:
    entries.pop()


CHANGES: dict[str, tuple[Change, str]] = {
    "nothing": (lambda *_: None, ""),
    "a use's values redacted": (_all_of_a_use_redacted, ""),
    "a changed entry": (_in_line(1, b'"kind":"use"', b'"outcome":"signed"', b'"outcome":"corrupt"'), "export/root"),
    "an entry with a space": (_in_line(1, b'"kind":"use"', b'"v":1', b'"v": 1'), "export/entry"),
    "an entry of a later version": (_in_line(1, b'"kind":"use"', b'"v":1', b'"v":2'), "export/entry-version"),
    "two entries swapped": (_swapped, "export/root"),
    "an entry twice": (_twice, "export/root"),
    "an entry less": (_shorter, "export/truncated"),
    "another value": (_in_line(1, b'"service"]', b'"service"]', b'"servant"]'), "export/commitment"),
    "a value not in form": (_in_line(1, b'"peer":["', b'"peer":["', b'"peer":[ "'), "export/withheld"),
    "a caller redacted": (_redacted, "export/redacted"),
    "no checkpoint": (_no_checkpoints, "export/no-checkpoint"),
    "the oldest checkpoint only": (_oldest_checkpoint_only, "export/unsigned-entries"),
    "another origin": (_in_line(0, b'"format"', b"quickstart", b"elsewhere"), "checkpoint/origin"),
    "another format": (_in_line(0, b'"format"', b'"version":1', b'"version":2'), "export/format"),
    "a record changed": (_in_line(0, b'"kind":"key-record"', b'"state":"active"', b'"state":"suspended"'), "export/record-differs"),
    "a record elsewhere": (_in_line(0, b'"kind":"key-record"', b'"leaf_index":', b'"leaf_index":1'), "export/record-differs"),
    "a record missing": (_without(0, b'"kind":"key-record"'), "export/record-missing"),
    "a record unknown": (_in_line(0, b'"kind":"key-record"', b'"record_id":"', b'"record_id":"x'), "export/record-unknown"),
}  # fmt: skip


_DUE = b'{"at":%d,"event":"%b","rule":"schedule/a-date"},'

SIGNED_CHANGES: dict[str, tuple[Change, str]] = {
    "nothing": (lambda *_: None, ""),
    "no genesis": (_without(1, b'"kind":"genesis"'), "export/genesis"),
    "a version left out": (
        _undocumented((b'"record_version":2', b'"record_version":3')),
        "export/record-version",
    ),
    "a use of a later version": (
        _in_line(1, b'"kind":"use"', b'"key_version":2', b'"key_version":7'),
        "export/use-of-unknown-key",
    ),
    "a use of another key": (
        _in_line(1, (b'"key":"log-audit"', b'"kind":"use"'), b'"key":"log-audit"', b'"key":"log-audio"'),
        "export/use-of-unknown-key",
    ),
    "a use of a suspended key": (
        _undocumented((b'"state":"active"', b'"state":"suspended"')),
        "export/use-in-state",
    ),
    "a use of a key before its activation": (
        _undocumented((b'"state":"active"', b'"state":"pre-activation"')),
        "export/use-in-state",
    ),
    "a use of a key after its deactivation": (
        _undocumented((b'"due":[', b'"due":[' + _DUE % (1, b"deactivate"))),
        "export/use-in-state",
    ),
    "a use of a key that became active by date": (
        _undocumented(
            (b'"state":"active"', b'"state":"pre-activation"'),
            (b'"due":[', b'"due":[' + _DUE % (1, b"activate")),
        ),
        "",
    ),
    "a use of a key before its activation date": (
        _undocumented(
            (b'"state":"active"', b'"state":"pre-activation"'),
            (b'"due":[', b'"due":[' + _DUE % (2**40, b"activate")),
        ),
        "export/use-in-state",
    ),
    "a use too many": (
        _undocumented((b'"v":1,"worker"', b'"usage_limit":0,"v":1,"worker"')),
        "export/usage-limit",
    ),
    "an entry that says otherwise than the document": (
        _in_line(1, IN_FORCE, b'"state":"active"', b'"state":"suspended"'),
        "export/record-leaf",
    ),
}
"""What a log that was kept wrongly from the beginning would hold, and sign."""


def _taken_apart(quickstart) -> tuple[list[bytes], list[bytes]]:
    before, _, entries = (quickstart.folder / "log.export").read_bytes().partition(b"\n\n")
    return before.split(b"\n"), entries.split(b"\n")[:-1]


def _put_together(path: Path, before: list[bytes], entries: list[bytes]) -> bytes:
    octets = b"\n".join(before) + b"\n\n" + b"\n".join(entries) + b"\n"
    path.write_bytes(octets)
    return octets


@pytest.mark.parametrize("what", list(CHANGES))
def test_both_verifiers_say_the_same(quickstart, tmp_path: Path, what: str):
    change, rule = CHANGES[what]
    lines = _taken_apart(quickstart)
    change(*lines)
    path = tmp_path / "changed.export"
    octets = _put_together(path, *lines)

    assert (rule_of(octets, _key(quickstart)), _ours(path, _key(quickstart))) == (rule, rule)
    assert second_verifier.rule_of(octets, _key(quickstart)) == rule


@pytest.mark.parametrize("what", list(SIGNED_CHANGES))
def test_both_verifiers_say_the_same_of_what_was_signed_wrong(quickstart, tmp_path: Path, what: str):
    change, rule = SIGNED_CHANGES[what]
    before, entries = _taken_apart(quickstart)
    change(before, entries)
    head = json.loads(before[0]) | {"size": len(entries)}
    signer = ec.generate_private_key(ec.SECP256R1())
    note = signed_note(head["origin"], [line.partition(b"\t")[0] for line in entries], signer)
    records = [line for line in before[1:] if not line.startswith(b'{"checkpoint"')]
    path = tmp_path / "changed.export"
    octets = _put_together(path, [printed(head), printed({"checkpoint": note}), *records], entries)

    assert (rule_of(octets, signer.public_key()), _ours(path, signer.public_key())) == (rule, rule)
    assert second_verifier.same(rule, second_verifier.rule_of(octets, signer.public_key()))


def test_another_key_signed_nothing_of_it(quickstart):
    other, path = ec.generate_private_key(ec.SECP256R1()).public_key(), quickstart.folder / "log.export"

    assert (rule_of(path.read_bytes(), other), _ours(path, other)) == ("checkpoint/unsigned",) * 2


@pytest.mark.parametrize("verifier", [Path(log_verifier.__file__), second_verifier.SCRIPT])
def test_no_other_verifier_has_anything_of_the_first(verifier: Path):
    imported = set(re.findall(r"^ *(?:from|import) (\w+)", verifier.read_text(), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_second_verifier_can_be_read_at_one_sitting_and_run_as_it_is(quickstart, tmp_path: Path):
    assert len(second_verifier.SCRIPT.read_text().splitlines()) <= 200
    folder = quickstart.folder
    command = [
        sys.executable,
        str(second_verifier.SCRIPT),
        str(folder / "log.export"),
        str(folder / "log.pub.pem"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"verified: cryptosvc.example/quickstart, \d+ entries, root [0-9a-f]{64}\n", done.stdout
    )
    other = tmp_path / "other.pub.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done = subprocess.run([*command[:-1], str(other)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "does not hold: checkpoint/unsigned\n")
