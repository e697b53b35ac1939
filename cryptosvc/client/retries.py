"""When a call is made again, and after how long: only where it is known, or made harmless, that it was not done.

`Busy` and `Unavailable` say that nothing was done. `Unreachable` does not; but a request id is never signed twice, so
the same request under the same id either is signed now or comes back as `Repeated` with the first receipt.
Everything else is the caller's to decide.
"""

import random
from dataclasses import dataclass

from cryptosvc.client.errors import Busy, CallError, Unavailable, Unreachable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how slowly.

    Args:
        attempts: at most, the first included.
        first_seconds: wait before the second attempt; doubled each time.
        most_seconds: longest wait.

    """

    attempts: int = 6
    first_seconds: float = 0.05
    most_seconds: float = 2.0

    def wait(self, error: CallError, attempt: int, left_seconds: float) -> float | None:
        """Seconds to wait after the attempt of this number (from 1) failed; None where it must not be made again."""
        if attempt >= self.attempts or not isinstance(error, Busy | Unavailable | Unreachable):
            return None
        longest = min(self.most_seconds, self.first_seconds * 2 ** (attempt - 1))
        # Spread, so that callers refused together do not come back together.
        seconds = max(error.retry_after_seconds, longest) * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        return seconds if seconds < left_seconds else None
