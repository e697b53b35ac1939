"""Splitting a key into parts and putting it together again, in environment `test`, each in a process of its own.

PKCS #11 has no such thing, and vendors' modules do it by a quorum of their own. In `test` the key leaves its module as
it would for another system (`transfer_token.py`), is split by SLIP-39, and each part is sealed to its holder
(`core/parts.py`) before anything leaves the process. The process is spawned, leaves no core file, keeps its memory out of
swap, does this one thing and ends: what it knew goes with it.

Source: Smart Energy Code G2.44B; SLIP-0039 (Trezor's reference library).
"""

import ctypes
import errno
import multiprocessing
import os
import resource
import secrets
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics

from cryptosvc.adapters.hsm import wrapping
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.pins import PinFile
from cryptosvc.adapters.hsm.transfer_token import TransferToken
from cryptosvc.core import parts
from cryptosvc.core.dsse import key_id
from cryptosvc.core.errors import Corrupt, CryptosvcError, Forbidden, Unavailable
from cryptosvc.core.handover.cargo import Arrival
from cryptosvc.core.parts import Part
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash
from cryptosvc.core.transfer.proof import require_proven

_CLAUSE = "G2.44B"
_SCALAR_OCTETS = 32
_SET_OCTETS = 8
_MCL_CURRENT_AND_FUTURE = 3
_PR_SET_DUMPABLE = 4
_SWAPS = Path("/proc/swaps")
_Said = tuple[type[CryptosvcError], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who gets a part: custodian id, and SubjectPublicKeyInfo DER of their P-256 key."""

    person: str
    spki: bytes


@dataclass(frozen=True, slots=True)
class Brought:
    """A part that its holder brought, and the key that opens it (`parts.sealing_key`)."""

    part: Part
    key: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where the key is or is to be.

    Args:
        config: the module.
        lock_folder: shared by all processes of the host that use its library.
        so_pin_file: PIN of its Security Officer; None for a module that has none.

    """

    config: ModuleConfig
    lock_folder: Path
    so_pin_file: Path | None


def split(
    place: Place, key: KeyRecord, holders: Sequence[Holder], threshold: int, mark: str
) -> tuple[Part, ...]:
    """Take a key out of its module in sealed parts, one for each holder; the object stays where it is.

    Raises:
        Malformed: numbers that make no sense.
        Forbidden: the module does not let the key out.
        Unavailable: the module is away, or the memory of the process cannot be kept out of swap.

    """
    parts.require_shares(threshold, len(holders))
    answer = _apart(_split, place, key, tuple(holders), threshold, mark)
    assert isinstance(answer, tuple)
    return answer


def restore(place: Place, key: KeyRecord, brought: Sequence[Brought]) -> None:
    """Put a key together from its parts, into its module, and have it prove itself; one that is there proves itself.

    Raises:
        Forbidden: parts of different splittings, too few or too many of them, one that does not open, or what they make
            is another key.
        Unavailable, Corrupt: as `Provisioner`.

    """
    _apart(_restore, place, key, tuple(brought))


# In the other process


def _split(
    place: Place, key: KeyRecord, holders: tuple[Holder, ...], threshold: int, mark: str
) -> tuple[Part, ...]:
    scalar = _taken_out(place, key)
    (shares,) = generate_mnemonics(1, [(threshold, len(holders))], scalar)
    set_id = secrets.token_hex(_SET_OCTETS)
    made = []
    for number, (holder, share) in enumerate(zip(holders, shares, strict=True), 1):
        pair = ec.generate_private_key(ec.SECP256R1())
        theirs = _public(holder.spki)
        unsealed = Part(
            key_id=str(key.key_id),
            public_point=key.public_point,
            set_id=set_id,
            mark=mark,
            threshold=threshold,
            parts=len(holders),
            number=number,
            holder=holder.person,
            holder_key=key_id(holder.spki),
            ephemeral=_point(pair.public_key()),
        )
        sealing = parts.sealing_key(pair.exchange(ec.ECDH(), theirs), unsealed.ephemeral, _point(theirs))
        made.append(replace(unsealed, sealed=parts.seal(unsealed, sealing, share.encode())))
    # what does not come together again is found out now, and not on the day it is needed
    if combine_mnemonics(shares[-threshold:]) != scalar:
        raise Corrupt("the parts do not make the key again; nothing was split", rule="split/shares")
    return tuple(made)


def _taken_out(place: Place, key: KeyRecord) -> bytes:
    """The private scalar, 32 octets, by way of a transport key that only this process has."""
    transport = rsa.generate_private_key(65537, wrapping.TRANSPORT_BITS)
    spki = transport.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with TransferToken(place.config, place.lock_folder) as token:
        oaep_hash = _hash_of(token)
        so_pin = None if place.so_pin_file is None else PinFile(place.so_pin_file)
        wrapped = token.export([key], spki, oaep_hash, so_pin)
    carrier = transport.decrypt(wrapped.carrier, _oaep(oaep_hash))
    # SoftHSM pads the PKCS #8 with zeros before it wraps it
    encoded = aes_key_unwrap_with_padding(carrier, wrapped.blobs[str(key.key_id)])
    private = load_der_private_key(encoded[: _der_length(encoded)], None)
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey)
        or _point(private.public_key()) != key.public_point
    ):
        raise Corrupt(f"the object of key {key.key_id} is another key", rule="hsm/public-point")
    return private.private_numbers().private_value.to_bytes(_SCALAR_OCTETS)


def _restore(place: Place, key: KeyRecord, brought: tuple[Brought, ...]) -> None:
    scalar = _combined(key, brought)
    private = ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1())
    if _point(private.public_key()) != key.public_point:
        raise _refused(f"the parts make another key than {key.key_id}", "split/other-key")
    encoded = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    challenge = f"restore-{secrets.token_hex(_SET_OCTETS)}"
    # the same name each time, so that who goes on after a crash finds what was left of it
    label = f"restore-{key.object_id.hex()}"
    with TransferToken(place.config, place.lock_folder) as token:
        object_id = label.encode()
        token.destroy(label, object_id)
        oaep_hash = _hash_of(token)
        transport = load_der_public_key(token.make_transport(label, object_id))
        assert isinstance(transport, rsa.RSAPublicKey)
        try:
            carrier = secrets.token_bytes(wrapping.CARRIER_OCTETS)
            arrival = Arrival(key, aes_key_wrap_with_padding(carrier, encoded))
            sealed = transport.encrypt(carrier, _oaep(oaep_hash))
            (arrived,) = token.receive((label, object_id), sealed, oaep_hash, [arrival], challenge)
        finally:
            token.destroy(label, object_id)
        try:
            require_proven(arrived.proof, challenge, key.key_class, key.public_point)
            if arrived.differences:
                raise _refused(
                    f"module {token.name} made the key otherwise than its class asks: "
                    + "; ".join(map(str, arrived.differences)),
                    "hsm/template",
                )
        except Forbidden:
            token.destroy(key.label, key.object_id)
            raise


def _combined(key: KeyRecord, brought: tuple[Brought, ...]) -> bytes:
    if not brought or any(one.part.public_point != key.public_point for one in brought):
        raise _refused(f"these are no parts of {key.key_id}", "split/other-key")
    if len({one.part.set_id for one in brought}) != 1:
        raise _refused("these parts are of different splittings and do not go together", "split/sets")
    threshold = brought[0].part.threshold
    if len(brought) != threshold or len({one.part.number for one in brought}) != threshold:
        raise _refused(
            f"{threshold} different parts restore this key, and there are {len(brought)}", "split/too-few"
        )
    try:
        return bytes(combine_mnemonics([parts.open_part(one.part, one.key).decode() for one in brought]))
    except (MnemonicError, ValueError):
        raise _refused("the parts do not go together", "split/sets") from None


def _hash_of(token: TransferToken) -> OaepHash:
    found = token.hashes()
    if not found:
        raise _refused(f"module {token.name} does not wrap by RSA-OAEP", "split/mechanism")
    return found[0]


def _oaep(oaep_hash: OaepHash) -> padding.OAEP:
    kind: hashes.HashAlgorithm = hashes.SHA256()
    if oaep_hash is OaepHash.SHA_1:
        kind = hashes.SHA1()  # noqa: S303  # SoftHSM has no other, and this is environment `test`
    return padding.OAEP(padding.MGF1(kind), kind, None)


def _der_length(encoded: bytes) -> int:
    """Octets of the one DER value that stands at the beginning."""
    first = encoded[1]
    if first < 0x80:
        return 2 + first
    return 2 + (first & 0x7F) + int.from_bytes(encoded[2 : 2 + (first & 0x7F)])


def _public(spki: bytes) -> ec.EllipticCurvePublicKey:
    found = load_der_public_key(spki)
    if not isinstance(found, ec.EllipticCurvePublicKey) or not isinstance(found.curve, ec.SECP256R1):
        raise _refused("parts are sealed to P-256 keys; a holder has another", "split/holder-key")
    return found


def _point(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _refused(message: str, rule: str) -> Forbidden:
    return Forbidden(message, rule=rule, clause=_CLAUSE)


# Between the processes


def _apart(work: Any, *arguments: Any) -> tuple[Part, ...] | None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        try:
            done, answer = pool.submit(_guarded, work, arguments).result()
        except BrokenProcessPool:
            raise Unavailable(
                "the process that has the parts in hand died; nothing it knew is left, ask again",
                rule="split/process-died",
                clause=_CLAUSE,
            ) from None
    if done:
        return answer  # type: ignore[no-any-return]  # what `work` gives
    kind, said = answer
    raise kind(**said)


def _guarded(work: Any, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Do it; an error crosses the pipe as what it is made of, so that it arrives whole."""
    try:
        _keep_memory()
        return True, work(*arguments)
    except CryptosvcError as error:
        said = {"message": error.message, "rule": error.rule, "clause": error.clause, "field": error.field}
        return False, (type(error), said)


def _keep_memory() -> None:
    """No core file, no tracing, no page of this process in swap; Unavailable where that cannot be had."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise _not_kept(ctypes.get_errno())
    if libc.mlockall(_MCL_CURRENT_AND_FUTURE) != 0 and _swaps():
        raise _not_kept(ctypes.get_errno())


def _swaps() -> bool:
    """Whether the machine has anything to swap to; where it cannot be told, it has."""
    try:
        return len(_SWAPS.read_text().splitlines()) > 1
    except OSError:
        return True


def _not_kept(code: int) -> Unavailable:
    return Unavailable(
        f"the memory of this process cannot be locked ({errno.errorcode.get(code, code)}: {os.strerror(code)}); raise the "
        "limit on locked memory (ulimit -l), or switch swap off",
        rule="split/memory",
        clause=_CLAUSE,
    )
