"""`cryptosvc transfer carry-out`, killed with SIGKILL at one of its moments, which the environment names.

begun: it is recorded that the module is about to be asked. module: it has done its part, and nothing of that is recorded.
recorded: the step is in the log, and nothing was signed for the other side yet.
"""

import os
import signal
import sys

from cryptosvc.__main__ import main
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.spokesman import Spokesman

MOMENT = "CRYPTOSVC_TEST_KILLED"
MOMENTS = {"begun": (Governor, "_made"), "module": (Governor, "_end"), "recorded": (Spokesman, "say")}


async def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    setattr(*MOMENTS[os.environ[MOMENT]], _killed)
    sys.exit(main())
