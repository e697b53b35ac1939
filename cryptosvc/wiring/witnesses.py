"""The witnesses of the configuration, where the service can ask them."""

from cryptosvc.adapters.witness_http import HttpPeer
from cryptosvc.config.settings import Settings
from cryptosvc.core.witness import Witness


def peers(settings: Settings) -> tuple[HttpPeer, ...]:
    """All of them; Malformed where one has no verifier key or URL."""
    return tuple(HttpPeer(Witness.parse(one.key), one.url) for one in settings.witnesses)
