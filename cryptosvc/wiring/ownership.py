"""One system per deployment: each token carries the name of the system that owns it, and another's is refused.

The name is the label of a secret key object made at genesis and used for nothing (G2.20, G2.25, G3.14, G10).
"""

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.keyclass import ceiling
from cryptosvc.wiring.logkeys import HEAD_KEY_CLASS, object_id

_PREFIX = "cryptosvc-owner:"


def owner_of(token: Provisioner) -> str | None:
    """The system and environment a token belongs to, `system/environment`; None where nobody has taken it."""
    labels = sorted({seen.label for seen in token.objects() if seen.label.startswith(_PREFIX)})
    return "+".join(label.removeprefix(_PREFIX) for label in labels) or None


def require_own(token: Provisioner, settings: Settings, module: str) -> None:
    """Raise Forbidden where the token belongs to another system, or to nobody."""
    found = owner_of(token)
    if found is None:
        raise Forbidden(
            f"module {module}: the token has not been taken into use by any system; `cryptosvc genesis` does that, and `init` in test",
            rule="deployment/token-unowned",
            clause="G2.25",
            field="deployment.system",
        )
    if found != _own(settings):
        raise _foreign(module, found, settings)


def take(token: Provisioner, settings: Settings, module: str) -> None:
    """Name the owner on a token nobody has taken; Forbidden where another has."""
    found = owner_of(token)
    if found is None:
        label = mark_of(settings)
        token.generate(label, object_id(label), ceiling(HEAD_KEY_CLASS).template)
    elif found != _own(settings):
        raise _foreign(module, found, settings)


def mark_of(settings: Settings) -> str:
    """Label of the object that names this deployment as a token's owner."""
    return _PREFIX + _own(settings)


def _own(settings: Settings) -> str:
    return f"{settings.deployment.system}/{settings.deployment.environment.value}"


def _foreign(module: str, found: str, settings: Settings) -> Forbidden:
    return Forbidden(
        f"module {module}: the token belongs to {found}, this deployment is {_own(settings)}; "
        "give each system a token of its own",
        rule="deployment/other-token",
        clause="G2.20",
        field="deployment.system",
    )
