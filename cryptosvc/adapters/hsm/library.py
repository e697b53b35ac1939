"""One loaded PKCS#11 library per path and process: initialised once, finalised when nobody uses it any more.

Rules in force (hazards 1, 5, 10):

- C_Initialize says that threads will be used, after this process exists; a forked child may not go on with it.
- Initialising again (after the module was lost) needs C_Finalize first, and C_Finalize while another thread is inside
  a call is undefined: users are suspended and waited for. A call that never returns forbids it.
- At exit every session is closed and the library finalised before the interpreter takes its threads apart.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from cryptosvc.adapters.hsm.constants import Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError, Functions
from cryptosvc.core.errors import Unavailable

_LOOK_EVERY_SECONDS = 0.002


class User(Protocol):
    """Someone who makes calls to a library from threads of its own."""

    def suspend(self) -> None:
        """Begin no more calls until opened again; returns at once."""

    def calling(self) -> bool:
        """Whether a call is under way."""

    def active(self) -> bool:
        """Whether the module works for this user."""


class Library:
    """A loaded library. Get one with `acquire`, give it back with `release`.

    `generation` counts successful C_Initialize calls; 0 before the first. Sessions belong to one generation. `live` is
    that number while the library is initialised, and 0 from the moment it is about to be finalised.
    """

    def __init__(self, path: str, reserved: bytes) -> None:
        self.path = path
        self.reserved = reserved
        self.functions = Functions.load(path)
        self.generation = 0
        self.live = 0
        self._initialised = False
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._users: list[User] = []

    def require_own_process(self) -> None:
        """Refuse use in a forked child (hazard 5): it would go on in its parent's sessions."""
        if not self.in_own_process():
            raise Unavailable(
                "this process was forked from one that had opened the module; start workers by spawning them",
                rule="hsm/forked",
            )

    def in_own_process(self) -> bool:
        """Whether this is the process that loaded the library."""
        return os.getpid() == self._process

    def ensure(self, user: User, seen_generation: int) -> int:
        """Make sure the library is initialised, anew where `user` found generation `seen_generation` unusable.

        It is not initialised again while it works for another user: then the trouble is one token's, not the
        library's.

        Args:
            user: who asks; its own calls are over.
            seen_generation: the generation that failed; 0 where there was none.

        Returns:
            The generation to use now.

        Raises:
            CryptokiError: C_Initialize failed.
            Unavailable: a call is stuck inside the library, which therefore cannot be initialised again.

        """
        self.require_own_process()
        with self._lock:
            if self._initialised and (
                seen_generation != self.generation
                or any(other.active() for other in self._users if other is not user)
            ):
                return self.generation
            if self._initialised:
                self._finalise()
            self.functions.initialise(self.reserved)
            self._initialised = True
            self.generation += 1
            self.live = self.generation
            return self.generation

    def _finalise(self) -> None:
        self.live = 0
        for user in self._users:
            user.suspend()
        end = time.monotonic() + 1.0
        while any(user.calling() for user in self._users):
            if time.monotonic() > end:
                raise Unavailable(
                    f"a call into {self.path} does not return, so the library cannot be initialised again; "
                    "restart this worker",
                    rule="hsm/call-stuck",
                )
            time.sleep(_LOOK_EVERY_SECONDS)
        self._initialised = False
        code = self.functions.C_Finalize(None)
        if code not in (
            Ckr.OK,
            Ckr.CRYPTOKI_NOT_INITIALIZED,
            Ckr.DEVICE_ERROR,
            Ckr.DEVICE_REMOVED,
            Ckr.GENERAL_ERROR,
        ):
            raise CryptokiError("C_Finalize", code)

    def join(self, user: User) -> None:
        """Register a user."""
        with self._lock:
            self._users.append(user)

    def leave(self, user: User) -> None:
        """Forget a user; finalise after the last one, unless one of its calls never returned."""
        with self._lock:
            self._users.remove(user)
            if not self._users and self._initialised and self.in_own_process() and not user.calling():
                self._initialised, self.live = False, 0
                self.functions.C_Finalize(None)

    @property
    def in_use(self) -> bool:
        """Whether anyone uses it."""
        return bool(self._users)


_loaded: dict[str, Library] = {}
_loading = threading.Lock()
_closers: list[Callable[[], None]] = []


def acquire(path: str, init_args: str, user: User) -> Library:
    """Load a library (once per process and path) and register a user of it.

    Raises:
        Unavailable: it cannot be loaded, is no PKCS#11 library, or is in use with other init_args.

    """
    reserved = init_args.encode()
    real = os.path.realpath(path)
    with _loading:
        library = _loaded.get(real)
        if library is None or (library.reserved != reserved and not library.in_use):
            try:
                library = _loaded[real] = Library(real, reserved)
            except (OSError, CryptokiError) as error:
                raise Unavailable(
                    f"{path} cannot be loaded as a PKCS#11 library: {error}", rule="hsm/library"
                ) from None
        library.require_own_process()
        if library.reserved != reserved:
            raise Unavailable(
                f"{path} is in use with other init_args; modules of one library share them",
                rule="hsm/init-args",
            )
        library.join(user)
        return library


def at_exit(close: Callable[[], None]) -> None:
    """Call `close` before the interpreter exits, last registered first (hazard 10)."""
    if not _closers:
        atexit.register(_close_all, os.getpid())
    _closers.append(close)


def not_at_exit(close: Callable[[], None]) -> None:
    """Forget a `close` that was called."""
    if close in _closers:
        _closers.remove(close)


def _close_all(process: int) -> None:
    if os.getpid() == process:
        while _closers:
            _closers.pop()()
