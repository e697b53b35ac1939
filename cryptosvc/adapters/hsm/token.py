"""Open the configured token: find it, hold it against the configuration, log in once, under a lock.

Eight processes that initialise and log in at once fail in 15 % of starts on SoftHSM (SoftHSMv2 issue 757), so both
happen under a file lock that all workers of a host share (hazard 6). One login session is kept for the life of the
process; every other session is opened without a PIN (hazard 4).
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptosvc.adapters.hsm import faults, mechanisms, pins
from cryptosvc.adapters.hsm.assurance import ModuleConfig, Reported, require_expected, require_login_safe
from cryptosvc.adapters.hsm.constants import (
    CK_UNAVAILABLE_INFORMATION,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKU_USER,
    Ckr,
)
from cryptosvc.adapters.hsm.cryptoki import CryptokiError, Functions
from cryptosvc.adapters.hsm.library import Library, User
from cryptosvc.core.errors import Unavailable

LOCK_SECONDS = 30.0
_LOCK_LOOK_EVERY_SECONDS = 0.01
_MAX_SESSION_COUNT = 0
"""Place of ulMaxSessionCount in CK_TOKEN_INFO.counts."""
_SESSIONS_BESIDE = 2
"""The login session and the one of the log's authentication."""


@dataclass(frozen=True, slots=True)
class OpenToken:
    """A token that is what the configuration says, logged in.

    Args:
        generation: of the library; the slot and every session belong to it.
        slot: CK_SLOT_ID.
        login_session: kept open for as long as the token is used.
        reported: what the token says of itself.
        mechanisms: what it advertises.

    """

    generation: int
    slot: int
    login_session: int
    reported: Reported
    mechanisms: frozenset[int]


def open_token(
    library: Library, user: User, config: ModuleConfig, lock_folder: Path, seen_generation: int = 0
) -> OpenToken:
    """Initialise the library where needed, find the token, compare it, log in.

    Args:
        library: acquired for `user`.
        user: whose calls are over while this runs.
        config: what the token must be.
        lock_folder: folder that every process of this host using the library shares; only its owner can write it.
        seen_generation: the library's generation that was found unusable; 0 where there was none.

    Raises:
        Unavailable: rule names what is wrong: gone, not the expected token, PIN refused or locked, lock not had.

    """
    functions = library.functions
    try:
        with _locked(lock_folder / f"{_short(library.path)}.lock"):
            generation = library.ensure(user, seen_generation)
            slot, reported = _find(functions, config)
            require_expected(config, reported)
            advertised = functions.mechanisms(slot)
            mechanisms.require(config.name, advertised)
            session = functions.open_session(slot, CKF_SERIAL_SESSION)
            try:
                _log_in(functions, session, config, reported, lock_folder)
            except BaseException:
                functions.C_CloseSession(session)
                raise
        return OpenToken(generation, slot, session, reported, advertised)
    except CryptokiError as error:
        translated = faults.translated(config.name, error, doing="opening the token")
        if isinstance(translated, Unavailable):
            raise translated from None
        raise Unavailable(translated.message, rule=translated.rule) from None
    except OSError as error:
        raise Unavailable(
            f"the lock folder {lock_folder} cannot be used: {error.strerror}", rule="hsm/lock"
        ) from None


def reported_by(functions: Functions, slot: int) -> Reported:
    """What the token in a slot says of itself now."""
    return Reported.of(functions.token(slot))


def open_session(functions: Functions, slot: int, *, writable: bool = False) -> int:
    """Open a session without a PIN; it shares the process's login."""
    return functions.open_session(slot, CKF_SERIAL_SESSION | (CKF_RW_SESSION if writable else 0))


def _find(functions: Functions, config: ModuleConfig) -> tuple[int, Reported]:
    matching: list[tuple[int, Reported]] = []
    serials: list[str] = []
    for slot in functions.slots():
        info = functions.token(slot)
        reported = Reported.of(info)
        if reported.label != config.token_label:
            continue
        serials.append(reported.serial)
        if reported.serial == config.token_serial:
            matching.append((slot, reported))
            _require_sessions(config, info.counts[_MAX_SESSION_COUNT])
    if len(matching) > 1:
        raise Unavailable(
            f"module {config.name}: {len(matching)} tokens have the configured label and serial; none is used",
            rule="hsm/token-ambiguous",
        )
    if matching:
        return matching[0]
    if serials:
        raise Unavailable(
            f"module {config.name}: token {config.token_label!r} has serial {', '.join(serials)}, the configuration "
            f"expects {config.token_serial}; it is not used until they agree",
            rule="hsm/unexpected-serial",
            clause="G2.44",
        )
    raise Unavailable(
        f"module {config.name}: there is no token labelled {config.token_label!r} now; the service looks again by itself",
        rule="hsm/token-absent",
    )


def _require_sessions(config: ModuleConfig, allowed: int) -> None:
    """0 means no limit and (CK_ULONG)-1 that the token does not say."""
    needed = config.sessions + _SESSIONS_BESIDE
    if 0 < allowed < needed and allowed != CK_UNAVAILABLE_INFORMATION:
        raise Unavailable(
            f"module {config.name} allows {allowed} sessions, and {needed} are needed for sessions = {config.sessions}; "
            f"configure at most {allowed - _SESSIONS_BESIDE}",
            rule="hsm/too-few-sessions",
        )


def _log_in(
    functions: Functions, session: int, config: ModuleConfig, reported: Reported, lock_folder: Path
) -> None:
    """C_Login, unless this PIN was refused before by any process of the host. Called under the lock."""
    refusals = lock_folder / f"{_short(config.library, config.token_label, config.token_serial)}.pin-refused"
    stamp = config.pin.stamp()
    if stamp and refusals.exists() and refusals.read_text(encoding="ascii") == stamp:
        raise faults.pin_refused(config.name)
    require_login_safe(config, reported)
    pin = config.pin.read()
    try:
        functions.login(session, CKU_USER, pin)
    except CryptokiError as error:
        if error.code == Ckr.USER_ALREADY_LOGGED_IN:
            return
        if faults.fault_of(error.code) is faults.Fault.PIN:
            refusals.write_text(stamp, encoding="ascii")
            raise faults.pin_refused(config.name) from None
        raise
    finally:
        pins.wipe(pin)
    refusals.unlink(missing_ok=True)


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"the lock {path} cannot be opened: {error.strerror}", rule="hsm/lock") from None
    try:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Unavailable(
                        f"another process has held {path} for {LOCK_SECONDS:g} s while opening the module",
                        rule="hsm/lock",
                    ) from None
                time.sleep(_LOCK_LOOK_EVERY_SECONDS)
        yield
    finally:
        os.close(descriptor)
