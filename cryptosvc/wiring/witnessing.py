"""`witness …`, and the cosignatures that `audit verify` asks for."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.evidence_bundle import is_bundle
from cryptosvc.adapters.witness_http import WitnessServer
from cryptosvc.adapters.witness_memory import FolderMemory
from cryptosvc.cli.actions import Document
from cryptosvc.core import checkpoint as notes
from cryptosvc.core.errors import Conflict, Corrupt, Malformed
from cryptosvc.core.witness import Witness, require_cosigned
from cryptosvc.flow.witness import WitnessDesk
from cryptosvc.wiring import outside
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.profiles import read_octets

_LONGEST_LINE = 1 << 24


class Witnessing:
    """Implements `cli.witness.Witnessing`."""

    def make_key(self, path: Path, name: str) -> Document:
        """Generate an Ed25519 key; its file is nobody else's to read."""
        key = Ed25519PrivateKey.generate()
        witness = _witness(name, key)
        octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise Conflict(f"{path} is there already", rule="witness/key-exists", field="FILE") from None
        except OSError as error:
            raise Malformed(f"{path}: {error.strerror}", rule="config/unwritable", field="FILE") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
        return {"written_to": str(path), "verifier_key": witness.text()}

    def serve(
        self,
        state: Path,
        key: Path,
        name: str,
        logs: Sequence[str],
        listen: str,
        ready: Callable[[int], None],
    ) -> None:
        """Serve in this thread; Ctrl-C ends it."""
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal():
            raise Malformed("--listen is HOST:PORT", rule="witness/listen", field="--listen")
        private_key = _private_key(key)
        _witness(name, private_key)
        desk = WitnessDesk(name, private_key, dict(map(_log, logs)), FolderMemory(state), SystemClock())
        server = WitnessServer(host.strip("[]"), int(port), desk.add_checkpoint)
        ready(server.port)
        try:
            server.serve()
        except KeyboardInterrupt:
            pass
        finally:
            server.close()

    def show(self, state: Path) -> Sequence[Document]:
        """Read the folder."""
        found = [notes.parse(note).checkpoint for note in FolderMemory(state).all()]
        return [{"origin": one.origin, "size": one.size, "root": one.root.hex()} for one in found]

    def require_held(self, file: Path, key: Path, places: Sequence[Path]) -> Sequence[Document]:
        """See `outside.require_held`; Malformed for a bundle, which has not the whole log."""
        if is_bundle(file):
            raise Malformed(
                "--outside needs an export, not a bundle", rule="outside/bundle", field="--outside"
            )
        return outside.require_held(file, public_key_der(key), places)

    def require_cosigned(self, file: Path, witnesses: Sequence[str], quorum: int) -> Sequence[Document]:
        """Hold the largest checkpoint of the file that enough of them cosigned to the witnesses."""
        wanted = [Witness.parse(one) for one in witnesses]
        if not 0 <= quorum <= len(wanted):
            raise Malformed(
                f"a quorum of {quorum} asks for more witnesses than are named", rule="witness/too-few-named"
            )
        largest, *smaller = sorted(_notes_of(file), key=_size, reverse=True)
        for note in smaller:
            with suppress(Corrupt):  # what was exported a moment after it was signed nobody has cosigned yet
                return _cosigned(largest, wanted, quorum or len(wanted))
            largest = note
        return _cosigned(largest, wanted, quorum or len(wanted))


def _cosigned(note: bytes, wanted: Sequence[Witness], quorum: int) -> Sequence[Document]:
    return [
        {"witness": one.witness, "cosigned_at": int(one.at), "entries": _size(note)}
        for one in require_cosigned(note, wanted, quorum)
    ]


def _size(note: bytes) -> int:
    return notes.parse(note).checkpoint.size


def _notes_of(file: Path) -> list[bytes]:
    """The checkpoints of an export or a bundle; the log's signatures on them have been verified."""
    found: list[bytes] = []
    with file.open("rb") as lines:
        for line in iter(lambda: lines.readline(_LONGEST_LINE), b""):
            if line == b"\n":
                break
            document = orjson.loads(line)
            if isinstance(document, dict) and isinstance(document.get("checkpoint"), str):
                found.append(cast("str", document["checkpoint"]).encode())
            if isinstance(document, dict) and "query" in document:
                break
    if not found:
        raise Corrupt("the file has no checkpoint", rule="export/no-checkpoint")
    return found


def _log(text: str) -> tuple[str, bytes]:
    origin, _, path = text.partition("=")
    if not origin or not path:
        raise Malformed("--log is ORIGIN=FILE", rule="witness/log", field="--log")
    return origin, public_key_der(Path(path))


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        found = load_pem_private_key(read_octets(path, "--key"), None)
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise Malformed(
            f"{path} is no Ed25519 key; `witness key` makes one", rule="witness/key", field="--key"
        )
    return found


def _witness(name: str, key: Ed25519PrivateKey) -> Witness:
    """Who a key makes one; Malformed where the name cannot be one."""
    return Witness.parse(Witness(name, key.public_key().public_bytes_raw()).text())
