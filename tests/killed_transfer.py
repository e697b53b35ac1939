"""`cryptosvc transfer carry-out`, killed with SIGKILL at one of its moments, which the environment names.

begun: it is recorded that the module is about to be asked. module: it has done its part, and nothing of that is recorded.
recorded: the step is in the log, and nothing was signed for the other side yet.
rows-out, rows-in, rows-gone: the first part of the device keys is about to be written, taken in, removed.
"""

import os
import signal
import sys

from cryptosvc.__main__ import main
from cryptosvc.flow.freight import Freighter
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.spokesman import Spokesman

MOMENT = "CRYPTOSVC_TEST_KILLED"
MOMENTS = {"begun": (Governor, "_made"), "module": (Governor, "_end"), "recorded": (Spokesman, "say")}
ROWS = {
    "rows-out": (Freighter, "_put"),
    "rows-in": (Freighter, "_bound"),
    "rows-gone": (Freighter, "_released"),
}


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    setattr(*(MOMENTS | ROWS)[os.environ[MOMENT]], _killed)
    sys.exit(main())
