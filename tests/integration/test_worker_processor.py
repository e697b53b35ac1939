"""Where a worker runs: on one processor, each thread in its turn, where workers are as many as processors; else anywhere."""

import os
import subprocess
import sys

import pytest

PROCESSORS = sorted(os.sched_getaffinity(0))
MANY = len(PROCESSORS)
PROGRAM = """
import os, sys, threading
from cryptosvc.wiring.process import settle_on_processor
settle_on_processor(int(sys.argv[1]), int(sys.argv[2]))
thread = threading.Thread(target=lambda: print(os.sched_getscheduler(0), *sorted(os.sched_getaffinity(0))))
thread.start()
thread.join()
"""


def place_of(index: int, workers: int) -> list[int]:
    """Scheduling policy of a thread that a worker starts afterwards, and the processors it may run on."""
    command = [sys.executable, "-c", PROGRAM, str(index), str(workers)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return [int(word) for word in said.stdout.split()]


@pytest.mark.parametrize("workers", [0, MANY, MANY + 3])
@pytest.mark.parametrize("index", [0, MANY - 1, MANY])
def test_a_worker_keeps_to_one_processor(index, workers):
    assert place_of(index, workers) == [os.SCHED_BATCH, PROCESSORS[index % MANY]]


@pytest.mark.skipif(MANY == 1, reason="there cannot be fewer workers than one processor")
def test_where_workers_are_fewer_than_processors_they_run_anywhere():
    assert place_of(0, MANY - 1) == [os.SCHED_OTHER, *PROCESSORS]
