"""`cryptosvc`, which says on standard error when it proves a policy set. Test-only entry."""

import sys

from cryptosvc.__main__ import main
from cryptosvc.adapters.policy import cedar

if __name__ == "__main__":
    prove = cedar.prove_under_ceiling

    def told(source: cedar.Source) -> None:
        """Prove it, and say so."""
        print("proving", file=sys.stderr)
        prove(source)

    cedar.prove_under_ceiling = told
    sys.exit(main())
