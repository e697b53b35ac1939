"""Settings → what the HSM adapter and the assurance table take."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path

from cryptosvc.adapters.hsm.assurance import Assurance, ModuleConfig
from cryptosvc.adapters.hsm.pins import PinCredential, PinFile, PinSource
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.config.settings import ModuleSettings, Settings
from cryptosvc.core.assurance import AcceptedStandard, AssuranceProfile, Classified
from cryptosvc.core.names import ModuleName

_NANOSECONDS = 1_000_000_000


def module_configs(settings: Settings) -> tuple[ModuleConfig, ...]:
    """Every configured module, in the order of the file."""
    return tuple(_module(module, settings) for module in settings.modules)


def assurance_profile(settings: Settings) -> AssuranceProfile:
    """The dated table of accepted standards, and the Information Classification Scheme."""
    return AssuranceProfile(
        tuple(
            AcceptedStandard(
                standard=row.standard,
                accepted_from=_midnight(row.accepted_from),
                accepted_until=None if row.accepted_until is None else _midnight(row.accepted_until),
            )
            for row in settings.policy.accepted_standards
        ),
        tuple(
            Classified(row.classification, row.level, frozenset(map(ModuleName, row.modules)))
            for row in settings.policy.information_classification
        ),
        settings.policy.smets1_exempt_level,
    )


def _module(module: ModuleSettings, settings: Settings) -> ModuleConfig:
    return ModuleConfig(
        name=ModuleName(module.name),
        library=str(module.library),
        token_label=module.token_label,
        token_serial=module.token_serial,
        pin=_pin(module),
        sessions=module.sessions,
        manufacturer=module.manufacturer,
        model=module.model,
        firmware=module.firmware,
        assurance=Assurance(
            standard=module.standard,
            level=module.level,
            certificate=module.certificate,
            country=module.country,
            firmware=module.certificate_firmware,
        ),
        worker_country=settings.deployment.worker_country,
        environment=settings.deployment.environment,
        init_args=module.initialise,
        call_seconds=module.call_seconds,
    )


def _pin(module: ModuleSettings) -> PinSource:
    if module.pin_file is not None:
        return PinFile(module.pin_file)
    return PinCredential(str(module.pin_credential))


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * _NANOSECONDS


@contextmanager
def tokens_of(
    configs: Mapping[ModuleName, ModuleConfig], lock_folder: Path
) -> Iterator[dict[ModuleName, Provisioner]]:
    """Every module's token, opened for making keys."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Provisioner(config, lock_folder)) for name, config in configs.items()
        }
