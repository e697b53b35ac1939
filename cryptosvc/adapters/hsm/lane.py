"""A lane: one thread, one session of its own, one C_Sign at a time."""

import ctypes
import threading
import time
from queue import SimpleQueue
from typing import Protocol

from cryptosvc.adapters.hsm import faults, objects
from cryptosvc.adapters.hsm.agreeing import Derivation, derives_itself, require_derives
from cryptosvc.adapters.hsm.agreement_work import AgreementWork
from cryptosvc.adapters.hsm.agreer import Agreer
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.constants import Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.device_work import DeviceWork
from cryptosvc.adapters.hsm.library import Library
from cryptosvc.adapters.hsm.opened_keys import OpenedKeys
from cryptosvc.adapters.hsm.token import OpenToken, open_session
from cryptosvc.adapters.hsm.work import Work
from cryptosvc.core.device_keys import SealedKeyRecord
from cryptosvc.core.errors import Busy, CryptosvcError, Internal, Unavailable
from cryptosvc.core.registry import KeyRecord

Tickets = SimpleQueue["Work[object] | None"]
_LONGEST_RESULT = 64


class Owner(Protocol):
    """What a lane needs of its pool: the open token while there is one, and someone to tell that it is lost."""

    config: ModuleConfig
    library: Library
    opened: OpenToken | None

    def why(self) -> Unavailable:
        """Why the token is not open."""

    def lost(self, opened: OpenToken, detail: str) -> None:
        """A call found the module gone."""


class Lane:
    """A session thread of a pool.

    `started` is the time.monotonic() at which the module was last entered, 0.0 while it is not inside. It is set
    *before* `pool.opened` is read, and a pool that suspends clears `opened` *before* it reads `started`: so either the
    lane sees that the pool is closed, or the pool sees that the lane is inside.
    """

    def __init__(self, pool: Owner, tickets: Tickets, name: str) -> None:
        self.pool = pool
        self.tickets = tickets
        self.started = 0.0
        self.work: Work[object] | None = None
        self.index = 0
        self._functions = pool.library.functions
        self._token: OpenToken | None = None
        self._session = 0
        self._session_argument = ctypes.c_ulong()  # converted once, not for every call
        self._handles: dict[str, tuple[KeyRecord, int]] = {}
        self._opened_keys = OpenedKeys(
            self._functions, max(1, pool.config.open_device_keys // pool.config.sessions)
        )
        self._derivation: Derivation | None = None
        self._derivers: set[int] = set()
        self._agreer = Agreer(self._functions)
        self._result = ctypes.create_string_buffer(_LONGEST_RESULT)
        self._length = ctypes.c_ulong()
        self._result_at = ctypes.cast(self._result, ctypes.c_void_p)
        self._length_at = ctypes.cast(ctypes.pointer(self._length), ctypes.c_void_p)
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        while (work := self.tickets.get()) is not None:
            if not self._do(work):
                break
        self.started = time.monotonic()
        self._close()
        self.started = 0.0

    def _do(self, work: "Work[object]") -> bool:
        """Take items of a work until there are none left; False where the watch answered for this lane meanwhile."""
        pool, now = self.pool, time.monotonic
        self.work = work
        for index in work.cursor:
            self.index = index
            started = self.started = now()
            token = pool.opened
            outcome: bytes | CryptosvcError
            try:
                if token is None:
                    outcome = pool.why()
                elif started > work.deadline(index):
                    outcome = Unavailable(
                        "the claim's deadline passed while it waited for the module; the key was not used",
                        rule="hsm/deadline",
                    )
                else:
                    outcome = self._use(token, work, index)
            except CryptosvcError as error:
                outcome = error
            except CryptokiError as error:
                outcome = self._unused(error)
            except Exception as error:  # noqa: BLE001 - a lane outlives whatever an item does to it
                self._close()
                outcome = Internal(f"a session thread failed: {type(error).__name__}", rule="hsm/lane")
            self.started = 0.0
            if not work.answer(index, outcome):
                return False
        self.work = None
        return True

    def _unused(self, error: CryptokiError) -> CryptosvcError:
        """Every call but C_Sign raises CryptokiError: the key was not used."""
        if self._token is not None and faults.fault_of(error.code) is faults.Fault.GONE:
            self.pool.lost(self._token, f"{error.function} returned {faults.name_of(error.code)}")
        else:
            self._close()
        return faults.before_use(self.pool.config.name, error.function, error.code)

    def _use(self, token: OpenToken, work: "Work[object]", index: int) -> bytes | CryptosvcError:
        if token is not self._token or not self._session:
            self._open(token)
        if work.in_session:
            return self._in_session(work, index)
        functions, session = self._functions, self._session_argument
        key, octets = work.item(index)
        # 1 the handle, from the cache where the record is the one it was found for
        known = self._handles.get(key.key_id)
        handle = known[1] if known is not None and known[0] is key else self._find(key)
        # 2 C_SignInit; a stale handle is looked up once more, since nothing was signed
        code = functions.C_SignInit(session, work.mechanism, handle)
        if code:
            if faults.fault_of(code) is not faults.Fault.STALE:
                raise CryptokiError("C_SignInit", code)
            self._forget()
            code = functions.C_SignInit(session, work.mechanism, self._find(key))
            if code:
                raise CryptokiError("C_SignInit", code)
        # 3 C_Sign: from here on an error may mean that the key was used
        length = self._length
        length.value = _LONGEST_RESULT
        code = functions.C_Sign(session, octets, len(octets), self._result_at, self._length_at)
        if not code and length.value == work.octets:
            return self._result.raw[: work.octets]
        return self._failed_use(token, code)

    def _in_session(self, work: "Work[object]", index: int) -> bytes | CryptosvcError:
        if type(work) is AgreementWork:
            return self._agree(work, index)
        assert isinstance(work, DeviceWork)
        return work.perform(index, self._functions, self._session, self._opened_keys, self.pool.config)

    def _agree(self, work: AgreementWork, index: int) -> bytes | CryptosvcError:
        """Derive and use a session key. What fails half way has told nobody anything, so it may be asked for again."""
        job = work.jobs[index]
        known = self._handles.get(job.key.key_id)
        handle = known[1] if known is not None and known[0] is job.key else self._find(job.key)
        if handle not in self._derivers:
            require_derives(self._functions, self._session, handle, job.key.label)
            self._derivers.add(handle)
        if self._derivation is None:
            itself = derives_itself(self._functions, self._session, handle)
            self._derivation = Derivation.MODULE if itself else Derivation.SERVICE
        work.require_allowed(self.pool.config, self._derivation)
        try:
            return work.perform(index, self._agreer, self._session, handle, self._derivation)
        except CryptokiError as error:
            if faults.fault_of(error.code) is not faults.Fault.STALE:
                raise
            self._forget()
            return work.perform(index, self._agreer, self._session, self._find(job.key), self._derivation)

    def _failed_use(self, token: OpenToken, code: int) -> CryptosvcError:
        if code == Ckr.OK:
            self._close()
            return Internal(
                "the module returned a result of the wrong length; it is not released", rule="hsm/length"
            )
        if faults.fault_of(code) is faults.Fault.GONE:
            self.pool.lost(token, f"C_Sign returned {faults.name_of(code)}")
        else:
            self._close()  # whatever the session still holds of this operation goes with it
        return faults.during_use(self.pool.config.name, "C_Sign", code)

    def _find(self, key: KeyRecord) -> int:
        """Handle of a record's object, from the cache where label, id and point are those it was found for."""
        if isinstance(key, SealedKeyRecord):
            return self._opened_keys.handle(key)
        known = self._handles.get(key.key_id)
        wanted = objects.Locator.of(key)
        if known is not None and objects.Locator.of(known[0]) == wanted:
            handle = known[1]
        else:
            handle = objects.find(self._functions, self._session, wanted)
        self._handles[key.key_id] = (key, handle)
        return handle

    def _forget(self) -> None:
        """Handles are of one session and of objects as they lay there."""
        self._handles.clear()
        self._derivers.clear()
        self._opened_keys.forget()

    def _open(self, token: OpenToken) -> None:
        self._opened_keys.gone()
        self._forget()
        self._derivation = None
        self._token, self._session = token, 0
        self._session = open_session(self._functions, token.slot)
        self._session_argument.value = self._session
        self._opened_keys.begin(self._session, token.mechanisms)

    def _close(self) -> None:
        """Close the session, where the library is still the one it was opened in. `started` is set by the caller."""
        session, self._session = self._session, 0
        self._opened_keys.gone()
        self._forget()
        if session and self._token is not None and self._token.generation == self.pool.library.live:
            self._functions.C_CloseSession(session)


def busy(module: str) -> Busy:
    """The queue of a module is full."""
    return Busy(f"module {module} has as much work as it may hold; try again", rule="hsm/queue-full")
