"""What a module must be before it is used: the token the configuration names, with the assurance it may claim."""

from dataclasses import dataclass

from cryptosvc.adapters.hsm.constants import TokenFlag
from cryptosvc.adapters.hsm.cryptoki import TokenInfo, text
from cryptosvc.adapters.hsm.pins import PinSource
from cryptosvc.core.case import ModuleFacts
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.names import Environment, ModuleName

SOFTWARE_MANUFACTURERS = frozenset(
    {"SoftHSM project", "Mozilla Foundation", "Kryoptic Project", "OpenCryptoki"}
)
"""CK_TOKEN_INFO manufacturers whose tokens are software on this host, whatever stands in the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """The assurance statement of a module. Source: SEC G2.44, G2.44A, G2.44B.

    Args:
        standard: as `FIPS 140-2`; empty where the module has no certificate.
        level: 0 to 4; 0 without a certificate.
        certificate: number of the validation certificate.
        country: ISO 3166 alpha-2 of the place the module stands.
        firmware: versions that certificate covers, as `2.6`; none where that was not written down.

    """

    standard: str
    level: int
    certificate: str
    country: str
    firmware: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleConfig:
    """One token of one PKCS#11 library.

    Args:
        name: how key records name it.
        library: path of the shared library.
        token_label, token_serial: both must be the token's, and only one token may have them.
        pin: where the PIN comes from.
        sessions: calls in flight per process: 1 or 2 for SoftHSM (global locks), many for a network HSM.
        manufacturer, model, firmware: what the token must report; firmware as `2.6`.
        assurance: what may be claimed for it.
        worker_country: ISO 3166 alpha-2 of the place this process runs.
        environment: test or live.
        init_args: pReserved of C_Initialize, for libraries that take one (NSS); empty otherwise.
        call_seconds: a call that takes longer is given up; its outcome is unknown.
        open_device_keys: device keys that are objects at a time, at most, in one process.

    """

    name: ModuleName
    library: str
    token_label: str
    token_serial: str
    pin: PinSource
    sessions: int
    manufacturer: str
    model: str
    firmware: str
    assurance: Assurance
    worker_country: str
    environment: Environment
    init_args: str = ""
    call_seconds: float = 10.0
    open_device_keys: int = 4096

    def facts(self) -> ModuleFacts:
        """What policy sees of the module once it was found to be what this says."""
        return ModuleFacts(
            name=self.name,
            standard=self.assurance.standard,
            level=self.assurance.level,
            certificate=self.assurance.certificate,
            country=self.assurance.country,
            worker_country=self.worker_country,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a token says of itself.

    Args:
        label, serial, manufacturer, model: text without padding.
        firmware: `major.minor`.
        flags: CK_TOKEN_INFO.flags.

    """

    label: str
    serial: str
    manufacturer: str
    model: str
    firmware: str
    flags: TokenFlag

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What may not change while the token is open."""
        return self.serial, self.manufacturer, self.model, self.firmware

    @classmethod
    def of(cls, info: TokenInfo) -> "Reported":
        """Read CK_TOKEN_INFO."""
        return cls(
            label=text(info.label),
            serial=text(info.serial),
            manufacturer=text(info.manufacturer),
            model=text(info.model),
            firmware=f"{info.firmware.major}.{info.firmware.minor}",
            flags=TokenFlag(info.flags),
        )


def require_expected(config: ModuleConfig, reported: Reported) -> None:
    """Refuse a token that is not the configured one, or that may not carry the configured assurance.

    Raises:
        Unavailable: `hsm/unexpected-manufacturer`, `…-model`, `…-firmware`, `hsm/firmware-not-certified`,
            `hsm/certificate-unstated` or `hsm/software-token` names what differs.

    """
    for fact, expected, found in (
        ("manufacturer", config.manufacturer, reported.manufacturer),
        ("model", config.model, reported.model),
        ("firmware", config.firmware, reported.firmware),
    ):
        if expected != found:
            raise Unavailable(
                f"module {config.name} reports {fact} {found!r}, the configuration expects {expected!r}; it is not used "
                "until they agree",
                rule=f"hsm/unexpected-{fact}",
                clause="G2.44",
            )
    claimed = config.assurance
    if (
        config.environment is Environment.LIVE
        and reported.manufacturer in SOFTWARE_MANUFACTURERS
        and (claimed.level > 0 or claimed.standard or claimed.certificate)
    ):
        raise Unavailable(
            f"module {config.name} is a software token ({reported.manufacturer}); outside environment test it cannot "
            f"stand in for a {claimed.standard or 'validated'} module: configure no standard and level 0, or a real HSM",
            rule="hsm/software-token",
            clause="G2.44",
        )
    _require_certified(config, reported)


def _require_certified(config: ModuleConfig, reported: Reported) -> None:
    """A certificate is of firmware versions: with any other the module is not what was validated."""
    claimed = config.assurance
    live = config.environment is Environment.LIVE and claimed.level > 0
    if live and not (claimed.certificate and claimed.firmware):
        raise Unavailable(
            f"module {config.name} claims {claimed.standard} level {claimed.level}, and the configuration does not say "
            "under which certificate, or which firmware that covers; set certificate and certificate_firmware",
            rule="hsm/certificate-unstated",
            clause="G2.44",
        )
    if claimed.firmware and reported.firmware not in claimed.firmware:
        raise Unavailable(
            f"module {config.name} reports firmware {reported.firmware!r}; its certificate {claimed.certificate} covers "
            f"{', '.join(claimed.firmware)}: it is not used until it runs what was validated",
            rule="hsm/firmware-not-certified",
            clause="G2.44",
        )


def require_login_safe(config: ModuleConfig, reported: Reported) -> None:
    """Do not spend the last attempt at a PIN.

    Raises:
        Unavailable: the PIN is locked, or one more wrong attempt would lock it.

    """
    if reported.flags & TokenFlag.USER_PIN_LOCKED:
        raise Unavailable(
            f"the PIN of module {config.name} is locked; the security officer must set a new one",
            rule="hsm/pin-locked",
        )
    if reported.flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise Unavailable(
            f"one more wrong PIN locks module {config.name}, so the service does not try; log in by hand once",
            rule="hsm/pin-final-try",
        )
