"""`cryptosvc init` or `genesis`, killed at each of its steps once, run again each time, and finished at last.

`python -m tests.killed_beginning CONFIG FILE init|genesis` says one line of JSON for each death: the step, and what
`reconcile` found after it (null before there is a store, and where the step was not done yet). Each run is a process of its own: a fork of this one, which
has loaded everything and touched no module.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.store.anchor import Anchor
from cryptosvc.adapters.store.registry import StoredRegistry
from cryptosvc.config.settings import read_settings
from cryptosvc.core.errors import Refusal
from cryptosvc.core.reconcile import BEGINNING
from cryptosvc.wiring import founding, provision, reconciling, review


def dying(before: set[str], say: Callable[[str], None]) -> None:
    """Let this process die at the first step that no process died at before."""

    def at(step: str) -> None:
        if step not in before:
            say(step)
            os.kill(os.getpid(), signal.SIGKILL)

    generate, destroy, keep, change = (
        Provisioner.generate,
        Provisioner.destroy,
        Anchor.keep,
        StoredRegistry.change,
    )

    def generating(self: Provisioner, label: str, *more: Any) -> bytes:
        at(f"before generating {label}")
        made = generate(self, label, *more)
        at(f"after generating {label}")
        return made

    def destroying(self: Provisioner, label: str, *more: Any) -> int:
        gone = destroy(self, label, *more)
        if gone and not label.startswith(BEGINNING):  # whose end is the end
            at(f"after destroying {label}")
        return gone

    def keeping(self: Anchor, *more: Any) -> None:
        at("before the anchor is kept")
        keep(self, *more)
        at("after the anchor is kept")

    changes = 0

    async def changing(self: StoredRegistry, *more: Any) -> Any:
        nonlocal changes
        changes += 1
        at(f"before change {changes} of the registry")
        done = await change(self, *more)
        at(f"after change {changes} of the registry")
        return done

    for owner, name, other in (
        (Provisioner, "generate", generating),
        (Provisioner, "destroy", destroying),
        (Anchor, "keep", keeping),
        (StoredRegistry, "change", changing),
    ):
        setattr(owner, name, other)


def in_a_process(work: Callable[[Callable[[str], None]], None]) -> tuple[str, int]:
    """What the work said, and how its process ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(lambda text: os.write(writer, text.encode()) and None)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent is told, and this process ends
            os.write(writer, repr(error).encode())
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    return said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(config: Path, file: Path, verb: str) -> None:
    """Kill and run again until a run comes to its end."""
    walk = {"init": provision.run, "genesis": founding.run}[verb]
    anchor = read_settings(config).store.anchor
    before: set[str] = set()
    if verb == "genesis":  # which proves the policies each time, and takes seconds for it
        policy = review.load(read_settings(config).policy.folder)
        review.load = lambda _: policy  # type: ignore[assignment]

    def run(say: Callable[[str], None]) -> None:
        dying(before, say)
        walk(config, file, lambda *_: None)

    def look(say: Callable[[str], None]) -> None:
        try:
            found, _ = reconciling.reconcile(config, finish=False)
        except Refusal as refusal:
            say(json.dumps({"refused": refusal.rule}))
        else:
            say(json.dumps([[one.kind.value, one.subject] for one in found]))

    while True:
        said, status = in_a_process(run)
        if status == 0:
            return
        if status != -signal.SIGKILL or said in before:
            sys.exit(f"after {sorted(before)}: {said}, status {status}")
        before.add(said)
        looked = said.startswith("after") and anchor.exists()
        found = in_a_process(look)[0] if looked else "null"
        print(json.dumps({"step": said, "differences": json.loads(found)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
