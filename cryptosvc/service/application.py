"""What the service speaks for: the use cases, handed in by `wiring`."""

from dataclasses import dataclass

from cryptosvc.flow.admit import Admission
from cryptosvc.flow.audit import Auditor
from cryptosvc.flow.explain import Explainer
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.keys import KeyReader
from cryptosvc.flow.observe import Observer
from cryptosvc.flow.query import Inquirer
from cryptosvc.flow.registers import Registers
from cryptosvc.flow.sign import Signer
from cryptosvc.flow.transfers import TransferDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One worker's use cases; each handler calls exactly one of them."""

    admission: Admission
    signer: Signer
    explainer: Explainer
    key_reader: KeyReader
    auditor: Auditor
    inquirer: Inquirer
    observer: Observer
    governor: Governor
    registers: Registers
    transfers: TransferDesk
