"""What a process of the service does before it works: no core dumps, no tracing, no `python -O`; its place."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from typing import NoReturn

from cryptosvc.core.errors import Internal

_PR_SET_DUMPABLE = 4
_KEPT_AT_HAND = "glibc.malloc.tcache_count=256"
_YOUNG_OBJECTS, _MIDDLE_ROUNDS, _OLD_ROUNDS = 50_000, 20, 20


def refuse_optimised() -> None:
    """Raise Internal under `python -O`: asserts narrow types here, and a build without them was never tested."""
    if sys.flags.optimize:
        raise Internal(
            "cryptosvc does not run under python -O or PYTHONOPTIMIZE; unset it", rule="process/optimised"
        )


def protect_memory() -> None:
    """Keep PINs and keys of software modules out of core files, and other processes of this user out of our memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise Internal(f"prctl option {option} failed with errno {ctypes.get_errno()}", rule="process/prctl")


def settle_on_processor(index: int, workers: int) -> None:
    """Keep worker `index` on one processor where there are at least as many workers as processors.

    The threads of a worker hand the interpreter lock to one another about once for each signature. From one processor
    to another that costs a wake-up and cold caches, with all processors busy a tenth of the worker's time. On one
    processor a thread that wakes would also push aside the one that runs, some seven times for a call: gRPC's poller
    wakes the event loop for each message. Under SCHED_BATCH it waits its turn, which saves a tenth of a single call.
    Where there are fewer workers than processors nothing is done: module calls and verification may then run side by
    side. To be called before threads are started, which inherit both.

    Args:
        index: of the worker, from 0.
        workers: how many there are; 0 stands for one for each processor.

    """
    processors = sorted(os.sched_getaffinity(0))
    if workers and workers < len(processors):
        return
    with suppress(OSError):  # where the system does not let us, it is only slower
        os.sched_setaffinity(0, {processors[index % len(processors)]})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def settle_collector() -> None:
    """Leave what start-up made alone, and look for cycles seldom.

    A walk makes some thousand short-lived objects and no cycles; with the default thresholds the collector went over
    everything alive (policies, protobuf descriptors, code) several times a second and took a tenth of the worker.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _MIDDLE_ROUNDS, _OLD_ROUNDS)


def allocator_settings(inherited: str) -> dict[str, str]:
    """Environment of a worker, so that glibc keeps freed blocks at hand for each of its threads.

    A call of a software module makes and frees some hundred small objects. By default a thread keeps seven of a size, and the
    rest goes through the arena's lists: a tenth of what a MAC costs. It is read when a process begins, so it is set for those
    that are started. Elsewhere than with glibc nobody reads it.

    Args:
        inherited: GLIBC_TUNABLES of this process; what an operator says there of the same stays.

    """
    if _KEPT_AT_HAND.partition("=")[0] in inherited:
        return {}
    return {"GLIBC_TUNABLES": ":".join(filter(None, (inherited, _KEPT_AT_HAND)))}


def leave(status: int) -> NoReturn:
    """End this process now. For when a thread is inside a library for ever, which would have every usual way out wait."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
