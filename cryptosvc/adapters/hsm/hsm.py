"""The `Hsm` port on PKCS#11 modules, and the log's authenticator.

Example:
    >>> hsm = Pkcs11Hsm([config], clock, lock_folder)  # touches nothing
    >>> hsm.start()                                    # in the process that will sign
    >>> answers = await hsm.sign(claims)
    >>> hsm.close()
"""

import asyncio
import hmac
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import cast

from cryptosvc.adapters.hsm import library as libraries
from cryptosvc.adapters.hsm.agreement_work import AgreementWork, Done, Job, jobs_of, produced
from cryptosvc.adapters.hsm.assurance import ModuleConfig, Reported
from cryptosvc.adapters.hsm.device_work import DeviceWork, is_of_device_key
from cryptosvc.adapters.hsm.lane import Tickets, busy
from cryptosvc.adapters.hsm.pool import Pool
from cryptosvc.adapters.hsm.sessions_apart import MANY_SESSIONS, SessionsApart
from cryptosvc.adapters.hsm.work import Inbox, MacWork, SignWork, Work
from cryptosvc.core.case import ModuleFacts
from cryptosvc.core.errors import Corrupt, CryptosvcError, OutcomeUnknown, Unavailable
from cryptosvc.core.names import ModuleName, Operation
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.ports import Clock

_WATCH_EVERY_SECONDS = 0.1
_FIRST_ATTEMPT_SECONDS = 15.0


class Pkcs11Hsm:
    """Signs with keys in PKCS#11 modules; see `flow/ports.py` for what callers may expect.

    Args:
        modules: one for each token; names differ.
        clock: to hold claims' deadlines against.
        lock_folder: a folder that only the service's user can write, shared by all its processes on the host.
        queue_items: claims that may wait or be under way per module; more are answered Busy.

    """

    def __init__(
        self, modules: Sequence[ModuleConfig], clock: Clock, lock_folder: Path, *, queue_items: int = 4096
    ) -> None:
        self._pools: Mapping[ModuleName, Pool] = MappingProxyType(
            {config.name: Pool(config, lock_folder) for config in modules}
        )
        self._facts = {config.name: config.facts() for config in modules}
        self._clock = clock
        self._apart: dict[ModuleName, SessionsApart] = {}
        self._lock_folder = lock_folder
        self._queue_items = queue_items
        self._under_way = dict.fromkeys(self._pools, 0)
        self._unloadable: dict[ModuleName, Unavailable] = {}
        self._inbox: Inbox | None = None
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._watch_pools, name="hsm-watch", daemon=True)
        self._state = "new"

    def start(self) -> None:
        """Open every module, in this process; waits for the first attempts. A module that fails is tried again.

        The sessions of a module that has many sign in a process of their own, started here.
        """
        self._state = "started"
        for name, pool in self._pools.items():
            try:
                pool.start()
            except Unavailable as error:
                self._unloadable[name] = error
                continue
            if pool.config.sessions >= MANY_SESSIONS:
                self._apart[name] = SessionsApart(pool.config, self._lock_folder)
                self._apart[name].start()
        self._watch.start()
        libraries.at_exit(self.close)
        end = time.monotonic() + _FIRST_ATTEMPT_SECONDS
        for name, pool in self._pools.items():
            if name not in self._unloadable:
                pool.wait_tried(max(0.0, end - time.monotonic()))
        for apart in self._apart.values():
            apart.wait_tried(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Close sessions and finalise the libraries. What is queued fails as Unavailable. Blocks up to 2 s per module."""
        if self._state != "started":
            return
        self._state = "closed"
        libraries.not_at_exit(self.close)
        self._stop.set()
        self._watch.join()
        for apart in self._apart.values():
            apart.close()
        for name, pool in self._pools.items():
            if name not in self._unloadable:
                pool.close()

    @property
    def stuck(self) -> Unavailable | None:
        """Set once a call into a module is taken never to return; then only another process can use that module."""
        return next((pool.stuck for pool in self._pools.values() if pool.stuck is not None), None)

    def facts(self, module: ModuleName) -> ModuleFacts:
        """What is known of a module.

        Raises:
            Unavailable: not configured, out of reach, or not what the configuration expects; the rule says which.

        """
        self._open_pool(module)
        return self._facts[module]

    def reported(self, module: ModuleName) -> tuple[Reported, frozenset[int]]:
        """What the token says of itself, and its mechanisms; raises as `facts`."""
        opened = self._open_pool(module).require_open()
        return opened.reported, opened.mechanisms

    async def sign(self, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        """ECDSA P-256 over SHA-256 of each claim's signed bytes, or the MAC of its Command, in order; items fail one by one.

        Failed carries Unavailable (the key was not used), Busy (nor was it), Corrupt (the object is not the
        recorded one; the key was not used), or OutcomeUnknown.
        """
        names = {claim.authorised.case.key.module for claim in claims}
        if len(names) == 1:
            return await self._sign_on(names.pop(), claims)
        parts = {
            name: [place for place, claim in enumerate(claims) if claim.authorised.case.key.module == name]
            for name in names
        }
        answered = await asyncio.gather(
            *(self._sign_on(name, [claims[place] for place in places]) for name, places in parts.items())
        )
        merged = {
            place: answer
            for places, answers in zip(parts.values(), answered, strict=True)
            for place, answer in zip(places, answers, strict=True)
        }
        return [merged[place] for place in range(len(claims))]

    async def _sign_on(self, module: ModuleName, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        """Sign what is to be signed and do what is done under agreed keys and device keys, on one module."""
        others = [
            place
            for place, claim in enumerate(claims)
            if claim.authorised.case.facts.operation is not Operation.SIGN
        ]
        if not others:
            return await self._signatures(module, claims)
        jobs = {place: found for place in others if (found := jobs_of(claims[place]))}
        if len(jobs) == len(claims):  # a batch of Commands: nothing to be put apart and together
            made = iter(await self.agree([job for found in jobs.values() for job in found]))
            return [produced(claims[place], list(islice(made, len(found)))) for place, found in jobs.items()]
        devices = [place for place in others if is_of_device_key(claims[place])]
        known = {*jobs, *devices}
        rest = [place for place in range(len(claims)) if place not in known]
        macs, opened, signatures = await asyncio.gather(
            self.agree([job for found in jobs.values() for job in found]),
            self._on_device_keys(module, [claims[place] for place in devices]) if devices else _nothing(),
            self._signatures(module, [claims[place] for place in rest]) if rest else _nothing(),
        )
        made = iter(macs)
        answers = (
            {place: produced(claims[place], list(islice(made, len(found)))) for place, found in jobs.items()}
            | dict(zip(devices, opened, strict=True))
            | dict(zip(rest, signatures, strict=True))
        )
        return [answers[place] for place in range(len(claims))]

    async def _on_device_keys(
        self, module: ModuleName, claims: Sequence[Claim]
    ) -> Sequence[Produced | Failed]:
        try:
            pool = self._open_pool(module)
        except CryptosvcError as error:
            return [Failed(claim, error) for claim in claims]
        if self._under_way[module] + len(claims) > self._queue_items:
            return [Failed(claim, busy(module)) for claim in claims]
        offset = time.monotonic() - self._clock.now().at / 1e9
        work = DeviceWork(claims, offset, self._inbox_here())
        await self._done(module, pool, work)
        return work.in_order()

    async def _done(self, module: ModuleName, pool: Pool, work: DeviceWork) -> None:
        """Have a work done, and wait for it; cancelled, what is not begun is not begun."""
        self._under_way[module] += work.size
        work.done.add_done_callback(lambda _: self._settle(module, work.size))
        pool.submit(cast("Work[object]", work))
        try:
            await work.done
        except asyncio.CancelledError:
            work.cancel()
            raise

    async def _signatures(self, module: ModuleName, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        try:
            pool = self._open_pool(module)
        except CryptosvcError as error:
            return [Failed(claim, error) for claim in claims]
        if self._under_way[module] + len(claims) > self._queue_items:
            return [Failed(claim, busy(module)) for claim in claims]
        offset = time.monotonic() - self._clock.now().at / 1e9
        if (apart := self._apart.get(module)) is not None:
            return await self._signatures_apart(pool, apart, claims, offset)
        work = SignWork(claims, offset, self._inbox_here())
        self._under_way[module] += len(claims)
        work.done.add_done_callback(lambda _: self._settle(module, len(claims)))
        pool.submit(cast("Work[object]", work))
        try:
            await work.done
        except asyncio.CancelledError:
            work.cancel()
            raise
        return work.in_order()

    async def _signatures_apart(
        self, pool: Pool, apart: SessionsApart, claims: Sequence[Claim], offset: float
    ) -> Sequence[Produced | Failed]:
        module = pool.config.name
        self._under_way[module] += len(claims)
        try:
            answers = await apart.sign(claims, offset)
        finally:
            self._settle(module, len(claims))
        if any(isinstance(one, Failed) and one.error.rule == "hsm/gone" for one in answers):
            pool.look_now()
        return answers

    async def agree(self, jobs: Sequence[Job]) -> Sequence[Done | CryptosvcError]:
        """Make GMACs, or decrypt, under keys agreed with key-agreement keys of one module; items fail one by one.

        Errors are Unavailable (also where the module lacks the key derivation and the environment is `live`), Busy,
        Corrupt (the object is not the recorded one), Forbidden (a tag does not verify), OutcomeUnknown (a call does not
        come back).

        Raises:
            ValueError: keys of more than one module.

        """
        if not jobs:
            return []
        (module,) = {job.key.module for job in jobs}
        try:
            pool = self._open_pool(module)
        except CryptosvcError as error:
            return [error for _ in jobs]
        if self._under_way[module] + len(jobs) > self._queue_items:
            return [busy(module) for _ in jobs]
        work = AgreementWork(jobs, time.monotonic() - self._clock.now().at / 1e9, self._inbox_here())
        self._under_way[module] += len(jobs)
        work.done.add_done_callback(lambda _: self._settle(module, len(jobs)))
        pool.submit(cast("Work[object]", work))
        try:
            await work.done
        except asyncio.CancelledError:
            work.cancel()
            raise
        return work.in_order()

    def _settle(self, module: ModuleName, items: int) -> None:
        self._under_way[module] -= items

    def head_mac(self, key: KeyRecord) -> "HeadMac":
        """The authenticator of the log's head: a session of its own on the key's module. Call after `start`.

        Raises:
            Unavailable: the key's module is not configured or its library cannot be loaded.
            Corrupt: the record is not one of a symmetric key.

        """
        if key.public_point:
            raise Corrupt(
                f"key {key.key_id} is not symmetric, so it cannot authenticate the log", rule="hsm/mac-key"
            )
        pool = self._pool(key.module)
        return HeadMac(pool, key)

    def _open_pool(self, module: ModuleName) -> Pool:
        pool = self._pool(module)
        pool.require_open()
        return pool

    def _pool(self, module: ModuleName) -> Pool:
        if self._state != "started":
            raise Unavailable(
                f"module {module} is {'closed' if self._state == 'closed' else 'not started'}",
                rule="hsm/closed",
            )
        if module in self._unloadable:
            raise self._unloadable[module]
        try:
            return self._pools[module]
        except KeyError:
            raise Unavailable(
                f"module {module!r} is not in the configuration", rule="hsm/not-configured"
            ) from None

    def _inbox_here(self) -> Inbox:
        loop = asyncio.get_running_loop()
        if self._inbox is None or self._inbox.loop is not loop:
            self._inbox = Inbox(loop)
        return self._inbox

    def _watch_pools(self) -> None:
        while not self._stop.wait(_WATCH_EVERY_SECONDS):
            for name, pool in self._pools.items():
                if name not in self._unloadable:
                    pool.watch(time.monotonic())
            for apart in list(self._apart.values()):
                apart.watch(time.monotonic())


async def _nothing() -> Sequence[Produced | Failed]:
    return ()


class HeadMac:
    """HMAC-SHA256 under one key, called from any thread, one at a time or not."""

    def __init__(self, pool: Pool, key: KeyRecord) -> None:
        self._pool = pool
        self._key = key
        self._tickets: Tickets = pool.own_lane("log-head")

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA256 of `data`, 32 octets; waits for the module.

        Raises:
            Unavailable: the module is gone, hangs, or has no such key. A MAC may be asked for again, so an outcome that is
                not known is no more than that.
            Corrupt: two objects match the key.

        """
        self._pool.require_open()
        work = MacWork(self._key, data)
        self._pool.submit(cast("Work[object]", work), self._tickets)
        try:
            return work.wait(2 * self._pool.config.call_seconds)
        except OutcomeUnknown as error:
            raise Unavailable(error.message, rule=error.rule) from None

    def verify(self, data: bytes, mac: bytes) -> None:
        """Raise Corrupt unless `mac` is the MAC of `data`; raises as `mac` where that cannot be told."""
        if not hmac.compare_digest(self.mac(data), mac):
            raise Corrupt(
                "the head of the log does not carry this module's authentication", rule="log/head-mac"
            )
