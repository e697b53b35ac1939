"""A deployment that is beginning: a mark on the token says so, from before its first key until its first records.

The key that authenticates the log is made before there is a log, and the genesis' keys before their records. Where that
is interrupted, the mark tells what was left apart from the keys of a deployment that has begun: nobody can have used
them, so they are destroyed and made again. The mark lies where those keys do, under the same PIN: whoever could forge
it could as well destroy them. Without it a log key whose anchor is gone stays in the way, as it must (G2.27).
"""

from dataclasses import dataclass

from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.store.engine import open_store
from cryptosvc.config.settings import Settings
from cryptosvc.core.errors import Conflict
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.reconcile import BEGINNING
from cryptosvc.wiring import logkeys


@dataclass(frozen=True, slots=True)
class Beginning:
    """How far a beginning has come.

    Args:
        interrupted: another run began it, and did not come to its end.
        logged: entry 0 of the log is written, and the log's key authenticates it.

    """

    interrupted: bool
    logged: bool


def mark_of(settings: Settings) -> str:
    """Label of the object that says that this deployment is beginning."""
    return f"{BEGINNING}{settings.deployment.system}/{settings.deployment.environment.value}"


def is_open(settings: Settings, token: Provisioner) -> bool:
    """Whether the mark is there."""
    mark = mark_of(settings)
    return any(seen.label == mark for seen in token.objects())


def begin(settings: Settings, token: Provisioner) -> Beginning:
    """Mark the token of the log and make the log's key, or go on with what was begun.

    Args:
        settings: of a deployment whose tables are made; no anchor, or the mark, is there.
        token: of the log's module.

    Raises:
        Conflict: `init/log-began`, a log key is there that no beginning has made.
        Unavailable: the module or the store failed.

    """
    interrupted = is_open(settings, token)
    logged = _is_logged(settings)
    head = logkeys.head_key(settings)
    if not interrupted:
        seen = {(one.label, one.object_id) for one in token.objects()}
        if logged or (head.label, head.object_id) in seen:
            raise Conflict(
                f"the store has a log, or the token its key {head.label!r}, but this host has no anchor "
                f"({settings.store.anchor}): the log began before. Put the anchor and the store back, or begin a new log "
                "with an empty store on an empty token",
                rule="init/log-began",
                clause="G2.27",
            )
        label = mark_of(settings)
        token.generate(label, logkeys.object_id(label), ceiling(logkeys.HEAD_KEY_CLASS).template)
    if not (interrupted and logged):
        # nothing was ever authenticated with a key that has no log
        token.destroy(head.label, head.object_id)
        token.generate(head.label, head.object_id, ceiling(head.key_class).template)
    return Beginning(interrupted, logged)


def end(settings: Settings, token: Provisioner) -> None:
    """Take the mark away: every key has its record."""
    label = mark_of(settings)
    token.destroy(label, logkeys.object_id(label))


def _is_logged(settings: Settings) -> bool:
    store = open_store(settings.store.url)
    try:
        with store.reading() as session:
            return session.deployment() is not None
    finally:
        store.close()
