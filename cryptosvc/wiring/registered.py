"""The parties of GBCS messages are registered: a certificate that is configured counts where the policy set names it.

Whose signed Commands are given a MAC, and who certifies Devices, is decided where everything else is that people approve and every record
names by its digest: `originators` and `device_authorities` of `governance.toml`, each a SHA-256. The configuration says where the
certificates lie, and may not add one. In environment `test` a list that is empty asks nothing.

Source: Smart Energy Code G2.44(b), G2.27.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Environment
from cryptosvc.core.quorum import Governance
from cryptosvc.wiring.profiles import read_certificate


def require_registered(settings: Settings, governance: Governance) -> int:
    """How many certificates are registered; Malformed for one that is configured and is not."""
    gbcs, live = settings.gbcs, settings.deployment.environment is Environment.LIVE
    return sum(
        _require(name, paths, listed, live=live)
        for name, paths, listed in (
            ("originators", gbcs.originators, governance.originators),
            ("device_authorities", gbcs.device_authorities, governance.device_authorities),
        )
    )


def _require(name: str, paths: Sequence[Path], listed: frozenset[str], *, live: bool) -> int:
    if not listed and not live:
        return 0
    for path in paths:
        digest = hashlib.sha256(read_certificate(path, f"gbcs.{name}")).hexdigest()
        if digest not in listed:
            raise Malformed(
                f"the certificate in {path} is not registered: {name} of governance.toml does not name {digest}; have it "
                "approved and named there, or take it out of the configuration",
                rule="config/not-registered",
                clause="G2.44(b)",
                field=f"gbcs.{name}",
            )
    return len(paths)
