"""The service, with workers that kill themselves (SIGKILL) at a chosen step of the corridor. Test-only entry.

    python -m tests.mortal_service CONFIG FOLDER STEP…

The supervisor and the workers are those of `cryptosvc serve`; the supervisor is given another worker command, and a
worker's ports and steps are wrapped so that its process ends there, under load, on the n-th time it comes by. Each
worker life takes the next step of the list, so every step kills one worker; when the list is used up workers live on.
FOLDER/died-STEP says that a worker of this step died there.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptosvc.config.settings import read_settings
from cryptosvc.core.content import forms
from cryptosvc.flow import sign
from cryptosvc.service import convert
from cryptosvc.wiring import journal, process, review, stores, supervisor, worker
from cryptosvc.wiring.stores import Opened

STEPS = (
    "inspect",
    "gather",
    "judge",
    "claim-before-commit",
    "claim-after-commit",
    "perform",
    "performed",
    "check",
    "record-before-commit",
    "record-after-commit",
    "reply",
)
AT_TIME = 20
"""A worker dies when it comes by for this time, so that there is work under way at every other step."""


class Reaper:
    """Ends this process at one step.

    Args:
        step: where; empty for nowhere.
        folder: where it says so first.

    """

    def __init__(self, step: str, folder: Path) -> None:
        self._step = step
        self._folder = folder
        self._left = AT_TIME

    def at(self, step: str) -> None:
        """Come by."""
        if step == self._step:
            self._left -= 1
            if self._left <= 0:
                (self._folder / f"died-{step}").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def before(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that comes by first."""

        @functools.wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.at(step)
            return call(*arguments, **named)

        return wrapped


class Beside:
    """Everything of `inner` that a subclass does not have itself."""

    def __init__(self, inner: Any, reaper: Reaper) -> None:
        self._inner = inner
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class MortalKeys(Beside):
    async def keys(self, key_ids: Any) -> Any:
        view = await self._inner.keys(key_ids)
        self._reaper.at("gather")
        return view


class MortalPolicy(Beside):
    def decide(self, facts: Any) -> Any:
        self._reaper.at("judge")
        return self._inner.decide(facts)


class MortalHsm(Beside):
    async def sign(self, claims: Sequence[Any]) -> Any:
        self._reaper.at("perform")
        produced = await self._inner.sign(claims)
        self._reaper.at("performed")
        return produced


class MortalStore(Beside):
    def writing(self) -> AbstractContextManager[Any]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._inner.writing() as session:
            watched = WatchedSession(session, self._reaper)
            yield watched
            if watched.kind:
                self._reaper.at(f"{watched.kind}-before-commit")
        if watched.kind:
            self._reaper.at(f"{watched.kind}-after-commit")


class WatchedSession(Beside):
    """Notices what kind of transaction it is: one that opens claims, or one that writes what was signed."""

    kind = ""

    def open_group(self, *arguments: Any) -> Any:
        self.kind = "claim"
        return self._inner.open_group(*arguments)

    def append(self, start: int, leaves: Sequence[Any]) -> Any:
        if any(b'"outcome":"signed"' in leaf.entry for leaf in leaves):
            self.kind = "record"
        return self._inner.append(start, leaves)


def work(folder: Path, steps: Sequence[str], config: Path, index: int, listen: str, ready: Path) -> None:
    """Be a worker that dies at the next step of the list."""
    reaper = Reaper(_next_step(folder, steps), folder)
    make = stores.open_store
    load = review.load
    assembled = worker.assemble
    stores.open_store = lambda *asked: MortalStore(make(*asked), reaper)  # type: ignore[assignment,return-value]
    review.load = lambda *asked: MortalPolicy(load(*asked), reaper)  # type: ignore[assignment,return-value]
    forms.parse = reaper.before("inspect", forms.parse)
    sign.check_all = reaper.before("check", sign.check_all)
    convert.signed = reaper.before("reply", convert.signed)
    convert.signed_into = reaper.before("reply", convert.signed_into)

    def assemble(settings: Any, hsm: Any, clock: Any, store: Opened, service: Any, proven: str) -> Any:
        mortal = replace(store, registry=MortalKeys(store.registry, reaper))  # type: ignore[arg-type]
        return assembled(settings, MortalHsm(hsm, reaper), clock, mortal, service, proven)  # type: ignore[arg-type]

    worker.assemble = assemble
    worker.run(config, index, listen, ready)


def _next_step(folder: Path, steps: Sequence[str]) -> str:
    for life, step in enumerate(steps):
        try:
            (folder / f"life-{life}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return step
    return ""


def serve(config: Path, folder: Path, steps: Sequence[str]) -> None:
    """Supervise such workers; the dead are replaced quickly."""

    def command(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "tests.mortal_service", "worker", str(folder), *steps, *arguments)

    supervisor.worker_command = command
    supervisor.Plan = functools.partial(  # type: ignore[misc,assignment]
        supervisor.Plan, first_wait_seconds=0.05, most_wait_seconds=0.1, give_up_after=10 * len(STEPS)
    )
    process.protect_memory()
    journal.set_up(part="supervisor")
    supervisor.supervise(config, read_settings(config))


def main(arguments: Sequence[str]) -> None:
    if arguments[0] != "worker":
        serve(Path(arguments[0]), Path(arguments[1]), arguments[2:])
        return
    options = arguments.index("--config")
    named = dict(zip(arguments[options::2], arguments[options + 1 :: 2], strict=True))
    work(
        Path(arguments[1]),
        arguments[2:options],
        Path(named["--config"]),
        int(named["--index"]),
        named["--listen"],
        Path(named["--ready"]),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
