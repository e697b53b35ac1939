"""`cryptosvc transfer carry-out`, killed with SIGKILL when the module has done its part and nothing is recorded yet."""

import os
import signal
import sys

from cryptosvc.__main__ import main
from cryptosvc.flow.govern import Governor


async def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Governor._end = _killed  # type: ignore[method-assign,assignment]  # the moment a power cut is worst
    sys.exit(main())
