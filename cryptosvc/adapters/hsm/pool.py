"""A pool: everything one process does with one module.

A keeper thread opens the token, looks after it, and opens it again after it was lost; lanes (session threads) sign. A
watch thread, which never enters the module, gives up calls that do not return.

    closed ──keeper opens──▶ opened ──a call says the module is gone──▶ closed, tried again with back-off

A call that does not return even after it was given up is the end: its library cannot be initialised again in this
process. The pool then says so in `stuck`, answers everything as Unavailable, and the process has to leave.

Nothing here repeats a key operation or a refused PIN.
"""

import threading
import time
from pathlib import Path
from queue import SimpleQueue

from cryptosvc.adapters.hsm import faults, token
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.constants import CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.lane import Lane, Tickets
from cryptosvc.adapters.hsm.library import Library, acquire
from cryptosvc.adapters.hsm.token import LOCK_SECONDS, OpenToken
from cryptosvc.adapters.hsm.work import Work
from cryptosvc.core.errors import CryptosvcError, Unavailable

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
_SETTLED_SECONDS = 5.0
"""A module that stayed open this long starts again with the first delay when it is lost."""
_CLOSE_SECONDS = 2.0
_STUCK_AFTER_CALLS = 2
"""A call that takes this many times `call_seconds` is not expected to return."""


class Pool:
    """The lanes and the keeper of one module. `start` before use, `close` at the end.

    Args:
        config: the module.
        lock_folder: shared by all processes of the host that use the library.

    """

    def __init__(self, config: ModuleConfig, lock_folder: Path) -> None:
        self.config = config
        self.opened: OpenToken | None = None
        self.stuck: Unavailable | None = None
        """Set once a call is taken never to return: this process cannot use the module again."""
        self._why: CryptosvcError = faults.gone(config.name, "it was not opened yet")
        self.library: Library
        self._lock_folder = lock_folder
        self._tickets: Tickets = SimpleQueue()
        self._lanes: list[Lane] = []
        self._given_up: list[Lane] = []
        self._changing = threading.Lock()
        self._wake = threading.Event()
        self._tried = threading.Event()
        self._closing = threading.Event()
        self._last: OpenToken | None = None
        self._seen_generation = 0
        self._refused_stamp: str | None = None
        self._looking = 0.0
        self._opening = 0.0
        self._keeper = threading.Thread(target=self._keep, name=f"hsm-{config.name}-keeper", daemon=True)

    def start(self) -> None:
        """Load the library and begin to open the token; Unavailable where the library cannot be loaded."""
        self.library = acquire(self.config.library, self.config.init_args, self)
        for number in range(self.config.sessions):
            self._add_lane(self._tickets, f"hsm-{self.config.name}-{number}")
        self._keeper.start()

    def wait_tried(self, seconds: float) -> None:
        """Wait until the first attempt to open the token is over, however it ended."""
        self._tried.wait(seconds)

    def own_lane(self, name: str) -> Tickets:
        """A lane beside the shared ones, with a queue of its own."""
        tickets: Tickets = SimpleQueue()
        self._add_lane(tickets, f"hsm-{self.config.name}-{name}")
        return tickets

    def submit(self, work: "Work[object]", tickets: Tickets | None = None) -> None:
        """Queue a work; every item will be answered in bounded time, whatever the module does."""
        if tickets is not None:
            tickets.put(work)
            return
        for _ in range(min(work.size, self.config.sessions)):
            self._tickets.put(work)

    def look_now(self) -> None:
        """Have the keeper look after the token at once: another process found it gone."""
        self._wake.set()

    def require_open(self) -> OpenToken:
        """The open token, or the reason why there is none as Unavailable."""
        self.library.require_own_process()
        if (opened := self.opened) is None:
            raise self.why()
        return opened

    def why(self) -> Unavailable:
        """Why the module is not open: a fresh error each time, so that none collects the tracebacks of others."""
        return Unavailable(self._why.message, rule=self._why.rule, clause=self._why.clause)

    def lost(self, opened: OpenToken, detail: str) -> None:
        """A call found the module gone: close at once, and have the keeper open it again."""
        with self._changing:
            if self.opened is opened:
                self._why = faults.gone(self.config.name, detail)
                self.opened = None
                self._seen_generation = opened.generation
                self._wake.set()

    # What library.py asks of a user.

    def suspend(self) -> None:
        """Begin no more calls."""
        if (opened := self.opened) is not None:
            self.lost(opened, "its library is being initialised again")

    def calling(self) -> bool:
        """Whether a lane, or the keeper's heartbeat, is inside the module."""
        opening = (
            self._closing.is_set()
            and self._keeper.is_alive()
            and threading.current_thread() is not self._keeper
        )
        keeper_inside = bool(self._looking) or opening
        return keeper_inside or any(lane.started for lane in (*self._lanes, *self._given_up))

    def active(self) -> bool:
        """Whether the token is open."""
        return self.opened is not None

    # Watching.

    def watch(self, now: float) -> None:
        """Give up calls that take longer than `call_seconds`; called by the watch thread, enters no module."""
        limit = self.config.call_seconds
        for lane in list(self._lanes):
            started, work, index = lane.started, lane.work, lane.index
            if not started or now - started < limit or work is None or started != lane.started:
                continue
            if work.answer(index, faults.stuck(self.config.name, limit)):
                with self._changing:
                    self._lanes.remove(lane)
                    self._given_up = [*(other for other in self._given_up if other.started), lane]
                self._add_lane(lane.tickets, lane.thread.name)
                lane.tickets.put(work)  # the rest of its items
        looking, opened = self._looking, self.opened
        if opened is not None and looking and now - looking > limit:
            self.lost(opened, "it does not answer")
        if self.stuck is None and self._never_returns(now):
            with self._changing:
                self.stuck = self._why = faults.never_returned(self.config.name, _STUCK_AFTER_CALLS * limit)
                self.opened = None  # what is queued is answered at once

    def _never_returns(self, now: float) -> bool:
        """Whether a lane, the heartbeat or an attempt to open the token has been inside the module for too long."""
        longest = _STUCK_AFTER_CALLS * self.config.call_seconds
        entered = [lane.started for lane in (*self._lanes, *self._given_up)]
        if any(since and now - since > longest for since in (*entered, self._looking)):
            return True
        # an attempt waits for its turn among the processes of the host first
        return bool(self._opening) and now - self._opening > LOCK_SECONDS + longest

    def close(self) -> None:
        """Fail what is queued, let calls under way end, close sessions, leave the library."""
        if not self.library.in_own_process():
            return
        self._closing.set()
        self._why = Unavailable(f"module {self.config.name} is being closed", rule="hsm/closing")
        with self._changing:
            opened, self.opened = self.opened, None
        self._wake.set()
        end = time.monotonic() + _CLOSE_SECONDS
        for lane in self._lanes:
            lane.tickets.put(None)
        for thread in (*(lane.thread for lane in (*self._lanes, *self._given_up)), self._keeper):
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        if opened is not None and opened.generation == self.library.live and not self.calling():
            self.library.functions.C_CloseSession(opened.login_session)
        self.library.leave(self)

    # The keeper's thread.

    def _keep(self) -> None:
        delay, not_before, opened_at = FIRST_DELAY_SECONDS, 0.0, 0.0
        while not self._closing.is_set():
            if self.opened is not None:
                self._wake.wait(HEARTBEAT_SECONDS)
                self._wake.clear()
                self._look()
                continue
            if opened_at and time.monotonic() - opened_at > _SETTLED_SECONDS:
                delay = FIRST_DELAY_SECONDS
            # At most one attempt per interval, however often the loss is reported.
            while not self._closing.is_set() and (left := not_before - time.monotonic()) > 0:
                self._wake.wait(left)
                self._wake.clear()
            not_before = time.monotonic() + delay
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
            opened_at = 0.0
            try:
                self._opening = time.monotonic()
                self._open()
                opened_at = time.monotonic()
            except CryptosvcError as error:
                self._why = error
            except Exception as error:  # noqa: BLE001 - the keeper outlives whatever a module does to it
                self._why = faults.gone(self.config.name, f"opening it failed with {type(error).__name__}")
            self._opening = 0.0
            self._tried.set()

    def _open(self) -> None:
        if self.stuck is not None:
            raise Unavailable(self.stuck.message, rule=self.stuck.rule)
        stamp = self.config.pin.stamp()
        if self._refused_stamp == stamp:
            raise faults.pin_refused(self.config.name)
        if (last := self._last) is not None and last.generation == self.library.live:
            # Another module keeps the library initialised: do not leave a login session behind at every loss.
            self.library.functions.C_CloseSession(last.login_session)
        self._last = None
        try:
            opened = token.open_token(
                self.library, self, self.config, self._lock_folder, self._seen_generation
            )
        except Unavailable as error:
            if error.rule == "hsm/pin-refused":
                self._refused_stamp = stamp
            self._seen_generation = self.library.generation
            raise
        self._refused_stamp = None
        with self._changing:
            if not self._over() and opened.generation == self.library.live:
                self.opened = self._last = opened

    def _over(self) -> bool:
        """Whether the token is not to be used any more, whatever comes."""
        return self._closing.is_set() or self.stuck is not None

    def _look(self) -> None:
        """Heartbeat: is it still logged in, and is it still the same token?"""
        self._looking = time.monotonic()
        try:
            if (opened := self.opened) is not None:
                self._compare(opened)
        finally:
            self._looking = 0.0

    def _compare(self, opened: OpenToken) -> None:
        functions = self.library.functions
        try:
            state = functions.session_state(opened.login_session)
            reported = token.reported_by(functions, opened.slot)
        except CryptokiError as error:
            self.lost(opened, f"{error.function} returned {faults.name_of(error.code)}")
            return
        if state not in (CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS):
            self.lost(opened, "it was logged out")
        elif reported.identity != opened.reported.identity:
            self.lost(
                opened,
                f"it now reports {' '.join(reported.identity)}, not {' '.join(opened.reported.identity)}",
            )

    def _add_lane(self, tickets: Tickets, name: str) -> None:
        lane = Lane(self, tickets, name)
        with self._changing:
            self._lanes.append(lane)
        lane.thread.start()
