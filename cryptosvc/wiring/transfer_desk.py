"""What answers for transfers over gRPC, put together."""

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.store.moved_claims import MovedClaims
from cryptosvc.config.settings import Settings
from cryptosvc.core.case import Principal
from cryptosvc.core.names import KeyId
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.sign import Signer
from cryptosvc.flow.spokesman import Spokesman
from cryptosvc.flow.transfer_log import TransferLog
from cryptosvc.flow.transfers import TransferDesk
from cryptosvc.wiring import stores


def transfer_desk(
    settings: Settings,
    store: stores.Opened,
    clock: SystemClock,
    signer: Signer,
    checkpointer: Checkpointer,
    service: Principal,
) -> TransferDesk:
    """A desk of one worker; it signs no package, since the blobs of one lie on the machine it is made on."""
    name = KeyId(settings.log.service_key)
    spokesman = Spokesman(store.registry, MovedClaims(store.ledger), None, signer, clock, (service, name))
    log = TransferLog(store.registry, store.ledger, checkpointer, settings.log.origin)
    return TransferDesk(store.registry, store.ledger, clock, log, spokesman, name)
