"""The deployment a ceremony is held on: its store, modules and use cases, opened once for the whole ceremony."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import cryptosvc
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.vault import Pkcs11Vault
from cryptosvc.adapters.policy.governance import GOVERNANCE_FILE, read_governance
from cryptosvc.config.settings import Settings
from cryptosvc.core.case import Principal
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.custodian import CustodianRecord
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.quorum import Governance
from cryptosvc.core.registry import CallerRecord, CallerState, KeyRecord
from cryptosvc.flow.ceremony import Identity
from cryptosvc.flow.checkpoint import Checkpointer
from cryptosvc.flow.destruction import Certifier
from cryptosvc.flow.govern import Governor
from cryptosvc.flow.setting import Setting
from cryptosvc.flow.sign import Signer
from cryptosvc.wiring import modules, ownership, profiles, proof, review, stores, worker

DEFAULT_CALLER = "ceremony"
"""Id of the caller in whose name a ceremony asks the corridor; governance registers and grants it as any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Everything acts need of a deployment."""

    settings: Settings
    clock: SystemClock
    store: stores.Opened
    vault: Pkcs11Vault
    signer: Signer
    checkpointer: Checkpointer
    governor: Governor
    certifier: Certifier
    setting: Setting
    principal: Principal
    x509: X509Profile

    async def key(self, key_id: str) -> KeyRecord | None:
        """A key's record as of now, proved by the log."""
        found = await self.store.registry.record("key-record", key_id)
        return found if isinstance(found, KeyRecord) else None

    async def register(self) -> dict[str, CustodianRecord]:
        """The custodian register: id → record."""
        found = await self.store.registry.of_kind("custodian-record")
        return {one.custodian_id: one for one in found if isinstance(one, CustodianRecord)}

    async def log_point(self) -> bytes:
        """Public point of the key that signs checkpoints; Corrupt where there is none."""
        return await self._own_point(self.settings.log.audit_key)

    async def service_point(self) -> bytes:
        """Public point of the key that signs the service's statements; Corrupt where there is none."""
        return await self._own_point(self.settings.log.service_key)

    async def _own_point(self, key_id: str) -> bytes:
        found = await self.key(key_id)
        if found is None:
            raise Corrupt(f"the service's own key {key_id} is missing", rule="registry/no-service")
        return found.public_point


class OfficeScene:
    """The Scene of `flow/ceremony.py`: one module of a deployment."""

    def __init__(self, office: Office, module: ModuleName) -> None:
        self._office = office
        self._module = module

    async def identity(self) -> Identity:
        """See `flow/ceremony.py`."""
        office = self._office
        reported = dict(await office.vault.identity(self._module))
        configured = next(one for one in office.settings.modules if one.name == self._module)
        module = {"name": str(self._module), "token": configured.token_label, **reported}
        return Identity(
            environment=office.settings.deployment.environment,
            system=office.settings.deployment.system,
            software_version=cryptosvc.__version__,
            build_sha256=build_sha256(),
            policy_digest=office.setting.policy_digest,
            modules=(tuple(sorted((name, value or "none") for name, value in module.items())),),
        )

    async def checkpoint(self) -> str:
        """See `flow/ceremony.py`."""
        for _ in range(10):
            try:
                return (await self._office.checkpointer.sign_checkpoint()).decode()
            except Conflict:  # a worker of the service signed this size; there is a newer head by now
                continue
        raise Conflict("the log moves too fast for a checkpoint; hold the ceremony again", rule="log/moving")


@asynccontextmanager
async def opened(settings: Settings, caller_id: str) -> AsyncIterator[Office]:
    """Open a deployment for a ceremony.

    Raises:
        Forbidden: no caller of this id is registered; a token belongs to another system.
        Unavailable, Corrupt, Malformed: as `stores.opened`, the module and the policies say.

    """
    clock = SystemClock()
    configs = modules.module_configs(settings)
    folder = stores.lock_folder(settings)
    for config in configs:
        with Provisioner(config, folder) as token:
            ownership.require_own(token, settings, config.name)
    hsm = Pkcs11Hsm(configs, clock, folder)
    hsm.start()
    try:
        scope = worker.scope(settings, f"{os.uname().nodename}/ceremony")
        async with stores.opened(settings, hsm, clock, scope) as store:
            service = await worker.service_principal(store)
            assembled = worker.assemble(settings, hsm, clock, store, service, await proof.held(store))
            application, checkpointer, digest = assembled[0], assembled[1], assembled[2]
            setting = Setting(
                settings.deployment.system,
                settings.deployment.environment.value,
                settings.log.origin,
                digest,
                governance(settings),
            )
            yield Office(
                settings=settings,
                clock=clock,
                store=store,
                vault=Pkcs11Vault(configs, folder),
                signer=application.signer,
                checkpointer=checkpointer,
                governor=application.governor,
                certifier=Certifier(
                    store.registry,
                    store.ledger,
                    application.signer,
                    checkpointer,
                    service,
                    KeyId(settings.log.service_key),
                    settings.log.origin,
                ),
                setting=setting,
                principal=await principal(store, caller_id),
                x509=profiles.profiles(settings).x509,
            )
    finally:
        hsm.close()


def governance(settings: Settings) -> Governance:
    """The rules of dual control alone: proving the policies they stand beside takes seconds, and is done elsewhere."""
    files = review.folder_files(settings.policy.folder)
    if GOVERNANCE_FILE not in files:
        raise Malformed(
            f"the policy folder has no {GOVERNANCE_FILE}, so nobody could approve anything",
            rule="governance/missing",
            field="policy.folder",
        )
    return read_governance(files[GOVERNANCE_FILE])


async def principal(store: stores.Opened, caller_id: str) -> Principal:
    """The registered caller in whose name something is done on the machine; Forbidden where there is none."""
    found = await store.registry.record("caller-record", caller_id)
    if not isinstance(found, CallerRecord) or found.state is not CallerState.REGISTERED:
        raise Forbidden(
            f"no caller {caller_id!r} is registered; a ceremony asks in the name of one that may govern and sign with "
            "the classes it touches",
            rule="ceremony/caller",
            clause="G2.20",
        )
    return Principal(caller=found, peer="ceremony")


def build_sha256() -> str:
    """SHA-256 over name and octets of every file of the installed package, lower-case hex."""
    folder = Path(cryptosvc.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            octets = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            digest.update(f"{len(name)} {name} {len(octets)} ".encode() + octets)
    return digest.hexdigest()
