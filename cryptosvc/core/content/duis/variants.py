"""Service Reference Variants: which body element carries one, how it is processed, which User Roles may ask for it.

A Service Request states its variant in the header and shows it again in the name of its one body element. Thresholds
and Supply Sensitive Checks go by the variant, so both must agree: else a Disable Supply could travel as a Read Inventory.

Source: DUIS XML schema 5.4, types Request, CommandVariant and ServiceReferenceVariant (names and order of body elements,
Command Variants by kind); DCC request matrix (critical, non-device, Eligible User Roles). The schema's remarks on
Command Variants of 7.12 to 7.15 contradict the matrix and the reference test data; the matrix is followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from cryptosvc.core.names import UserRole

SIGNED_PRE_COMMAND = "SignedPreCommand"
"""The body element that stands for any critical variant once its Pre-Command is signed."""

SIGNED_PRE_COMMAND_VARIANTS = frozenset({"5", "6", "7"})


class Kind(Enum):
    """How a Service Request is processed, by the Command Variants its header may state."""

    NON_CRITICAL = frozenset({"1", "2", "3"})
    CRITICAL = frozenset({"4", "5", "6", "7"})
    NON_DEVICE = frozenset({"8"})


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One row.

    Args:
        variant: Service Reference Variant, as `7.2`.
        body: local name of the body element.
        kind: how it is processed.
        eligible: User Roles that may send it; empty where the matrix names none.

    """

    variant: str
    body: str
    kind: Kind
    eligible: frozenset[UserRole]

    @property
    def service_reference(self) -> str:
        """Name the Service Reference: the first two numbers of the variant."""
        return ".".join(self.variant.split(".")[:2])


def _row(variant: str, body: str, kind: Kind, eligible: str) -> ServiceRequest:
    return ServiceRequest(variant, body, kind, frozenset(UserRole(role) for role in eligible.split()))


_C, _N, _D = Kind.CRITICAL, Kind.NON_CRITICAL, Kind.NON_DEVICE

# 7.16 has no Eligible User Role in the matrix; its Commands are signed by Load Controllers in the reference test data.
# 8.5 and 8.6 have none either and nobody may send them, unless the operator configures who.
_ROWS = (
    _row("1.1.1", "UpdateImportTariffPrimaryElement", _C, "GS IS"),
    _row("1.1.2", "UpdateImportTariffSecondaryElement", _C, "IS"),
    _row("1.2.1", "UpdatePricePrimaryElement", _C, "GS IS"),
    _row("1.2.2", "UpdatePriceSecondaryElement", _C, "IS"),
    _row("1.5", "UpdateMeterBalance", _C, "GS IS"),
    _row("1.6", "UpdatePaymentMode", _C, "GS IS"),
    _row("1.7", "ResetTariffBlockCounterMatrix", _C, "IS"),
    _row("2.1", "UpdatePrepayConfiguration", _C, "GS IS"),
    _row("2.2", "TopUpDevice", _N, "GS IS"),
    _row("2.3", "UpdateDebt", _C, "GS IS"),
    _row("2.5", "ActivateEmergencyCredit", _C, "GS IS"),
    _row("3.1", "DisplayMessage", _N, "GS IS"),
    _row("3.2", "RestrictAccessForChangeOfTenancy", _N, "GS IS"),
    _row("3.3", "ClearEventLog", _N, "GS IS"),
    _row("3.4", "UpdateSupplierName", _N, "GS IS"),
    _row("3.5", "DisablePrivacyPIN", _N, "GS IS"),
    _row("4.1.1", "ReadInstantaneousImportRegisters", _N, "ED GS GT IS"),
    _row("4.1.2", "ReadInstantaneousImportTOUMatrices", _N, "ED GS GT IS"),
    _row("4.1.3", "ReadInstantaneousImportTOUWithBlocksMatrices", _N, "ED IS"),
    _row("4.1.4", "ReadInstantaneousImportBlockCounters", _N, "GS"),
    _row("4.2", "ReadInstantaneousExportRegisters", _N, "ED ES"),
    _row("4.3", "ReadInstantaneousPrepayValues", _N, "GS IS"),
    _row("4.4.2", "RetrieveCoMOrTariffTriggeredBillingDataLog", _N, "GS IS"),
    _row("4.4.3", "RetrieveBillingCalendarTriggeredBillingDataLog", _N, "GS IS"),
    _row("4.4.4", "RetrieveBillingDataLogDebtPayments", _N, "GS IS"),
    _row("4.4.5", "RetrieveBillingDataLogPrepaymentCredits", _N, "GS IS"),
    _row("4.6.1", "RetrieveImportDailyReadLog", _N, "GS IS"),
    _row("4.6.2", "RetrieveExportDailyReadLog", _N, "ES"),
    _row("4.8.1", "ReadActiveImportProfileData", _N, "ED GS GT IS OU"),
    _row("4.8.2", "ReadReactiveImportProfileData", _N, "ED IS OU"),
    _row("4.8.3", "ReadExportProfileData", _N, "ED ES OU"),
    _row("4.10", "ReadNetworkData", _N, "ED GS GT IS"),
    _row("4.11.1", "ReadTariffPrimaryElement", _N, "GS IS OU"),
    _row("4.11.2", "ReadTariffSecondaryElement", _N, "IS OU"),
    _row("4.12.1", "ReadMaximumDemandImportRegisters", _N, "ED IS"),
    _row("4.12.2", "ReadMaximumDemandExportRegisters", _N, "ED ES"),
    _row("4.13", "ReadPrepaymentConfiguration", _N, "GS IS"),
    _row("4.14", "ReadPrepaymentDailyReadLog", _N, "GS IS"),
    _row("4.15", "ReadLoadLimitData", _N, "ED IS"),
    _row("4.16", "ReadActivePowerImport", _N, "ED IS"),
    _row("4.17", "RetrieveDailyConsumptionLog", _N, "ED GS GT IS OU"),
    _row("4.18", "ReadMeterBalance", _N, "GS IS"),
    _row("5.1", "CreateSchedule", _D, "ED ES GS GT IS OU"),
    _row("5.2", "ReadSchedule", _D, "ED ES GS GT IS OU"),
    _row("5.3", "DeleteSchedule", _D, "ED ES GS GT IS OU"),
    _row("6.2.1", "ReadDeviceConfigurationVoltage", _N, "ED IS RSA"),
    _row("6.2.2", "ReadDeviceConfigurationRandomisation", _N, "ED IS RSA"),
    _row("6.2.3", "ReadDeviceConfigurationBillingCalendar", _N, "GS IS RSA"),
    _row("6.2.4", "ReadDeviceConfigurationIdentityExcMPxN", _N, "ED ES GS GT IS OU RSA"),
    _row("6.2.5", "ReadDeviceConfigurationInstantaneousPowerThresholds", _N, "IS RSA"),
    _row("6.2.7", "ReadDeviceConfigurationMPxN", _N, "ED ES GS GT IS OU RSA"),
    _row("6.2.8", "ReadDeviceConfigurationGas", _N, "GS GT RSA"),
    _row("6.2.9", "ReadDeviceConfigurationPaymentMode", _N, "GS IS RSA"),
    _row("6.2.10", "ReadDeviceConfigurationEventAndAlertBehaviours", _N, "ED GS IS"),
    _row("6.4.1", "UpdateDeviceConfigurationLoadLimitingGeneralSettings", _C, "IS"),
    _row("6.4.2", "UpdateDeviceConfigurationLoadLimitingCounterReset", _N, "IS"),
    _row("6.5", "UpdateDeviceConfigurationVoltage", _N, "ED"),
    _row("6.6", "UpdateDeviceConfigurationGasConversion", _C, "GS"),
    _row("6.7", "UpdateDeviceConfigurationGasFlow", _C, "GS"),
    _row("6.8", "UpdateDeviceConfigurationBillingCalendar", _C, "GS IS"),
    _row("6.11", "SynchroniseClock", _C, "GS IS"),
    _row("6.12", "UpdateDeviceConfigurationInstantaneousPowerThreshold", _N, "IS"),
    _row("6.13", "ReadEventOrSecurityLog", _N, "ED GS GT IS RSA"),
    _row("6.14.1", "UpdateDeviceConfigurationALCDescriptions", _C, "IS"),
    _row("6.14.2", "UpdateDeviceConfigurationALCScheduler", _C, "IS"),
    _row("6.14.3", "UpdateDeviceConfigurationAuxiliaryControllerScheduler", _C, "IS"),
    _row("6.15.1", "UpdateSecurityCredentialsKRP", _C, "ED GS GT IS"),
    _row("6.15.2", "UpdateSecurityCredentialsDevice", _C, "GS IS"),
    _row("6.17", "IssueSecurityCredentials", _C, "GS IS"),
    _row("6.18.1", "SetMaximumDemandConfigurableTimePeriod", _N, "ED"),
    _row("6.18.2", "ResetMaximumDemandRegisters", _N, "ED"),
    _row("6.20.1", "SetDeviceConfigurationImportMPxN", _N, "GS IS"),
    _row("6.20.2", "SetDeviceConfigurationExportMPAN", _N, "ES"),
    _row("6.21", "RequestHandoverOfDCCControlledDevice", _N, "GS IS"),
    _row("6.22", "ConfigureAlertBehaviour", _N, "ED GS IS"),
    _row("6.23", "UpdateSecurityCredentialsCoS", _N, "GS IS"),
    _row("6.24.1", "RetrieveDeviceSecurityCredentialsKRP", _N, "ED GS GT IS"),
    _row("6.24.2", "RetrieveDeviceSecurityCredentialsDevice", _C, "GS IS"),
    _row("6.25", "SetElectricitySupplyTamperState", _C, "IS"),
    _row("6.26", "UpdateDeviceConfigurationDailyResettingOfTariffBlockCounterMatrix", _C, "IS"),
    _row("6.27", "UpdateDeviceConfigurationRMSVoltageCounterReset", _N, "ED"),
    _row("6.28", "SetCHFSubGHzConfiguration", _N, "GS IS"),
    _row("6.29", "RequestCHFSubGHzChannelScan", _N, "GS IS"),
    _row("6.30", "ReadCHFSubGHzConfiguration", _N, "GS IS RSA"),
    _row("6.31", "ReadCHFSubGHzChannel", _N, "GS IS RSA"),
    _row("6.32", "ReadCHFSubGHzChannelLog", _N, "GS IS RSA"),
    _row("7.1", "EnableSupply", _C, "IS"),
    _row("7.2", "DisableSupply", _C, "GS IS"),
    _row("7.3", "ArmSupply", _C, "GS IS"),
    _row("7.4", "ReadSupplyStatus", _N, "ED ES GS GT IS RSA"),
    _row("7.5", "ActivateAuxiliaryLoad", _C, "IS"),
    _row("7.6", "DeactivateAuxiliaryLoad", _C, "IS"),
    _row("7.7", "ReadALCSData", _N, "ED IS OU"),
    _row("7.8", "ResetAuxiliaryLoad", _C, "IS"),
    _row("7.9", "AddAuxiliaryLoadToBoostButton", _N, "IS"),
    _row("7.10", "RemoveAuxiliaryLoadFromBoostButton", _N, "IS"),
    _row("7.11", "ReadBoostButtonDetails", _N, "IS OU"),
    _row("7.12", "SetRandomisedOffsetLimit", _C, "IS"),
    _row("7.13", "SetAuxiliaryControllerState", _C, "IS"),
    _row("7.14", "ReadAuxiliaryControllerConfigurationData", _N, "ED IS OU"),
    _row("7.15", "ReadAuxiliaryControllerOperationalData", _N, "ED IS OU"),
    _row("7.16", "LimitAPCLevel", _C, "LC"),
    _row("8.1.1", "CommissionDeviceSynchroniseClock", _C, "GS IS"),
    _row("8.2", "ReadInventory", _D, "ED ES GS GT IS OU RSA"),
    _row("8.3", "DecommissionDevice", _D, "GS IS"),
    _row("8.4", "UpdateInventory", _D, "ED ES GS GT IS OU RSA"),
    _row("8.5", "ServiceOptOut", _N, ""),
    _row("8.6", "ServiceOptIn", _D, ""),
    _row("8.7.1", "JoinServiceCritical", _C, "GS IS"),
    _row("8.7.2", "JoinServiceNonCritical", _N, "GS IS OU"),
    _row("8.8.1", "UnjoinServiceCritical", _C, "GS IS"),
    _row("8.8.2", "UnjoinServiceNonCritical", _N, "GS IS OU"),
    _row("8.9", "ReadDeviceLog", _N, "GS IS OU"),
    _row("8.11", "UpdateHANDeviceLog", _N, "GS IS OU"),
    _row("8.12.1", "RestoreHANDeviceLog", _N, "GS IS"),
    _row("8.12.2", "RestoreGPFDeviceLog", _N, "GS IS"),
    _row("8.13", "ReturnLocalCommandResponse", _D, "GS IS"),
    _row("8.14.1", "CHFInstallSuccessSMWAN", _D, "GS IS"),
    _row("8.14.2", "CHFInstallSuccessNoSMWAN", _D, "GS IS"),
    _row("8.14.3", "CHFFaultReturn", _D, "GS IS"),
    _row("8.14.4", "CHFNoFaultReturn", _D, "GS IS"),
    _row("9.1", "RequestCustomerIdentificationNumber", _N, "OU"),
    _row("11.1", "UpdateFirmware", _D, "GS IS"),
    _row("11.2", "ReadFirmwareVersion", _N, "ED ES GS GT IS OU RSA"),
    _row("11.3", "ActivateFirmware", _C, "GS IS"),
    _row("11.4", "UpdatePPMIDFirmware", _D, "GS IS"),
    _row("12.1", "RequestWANMatrix", _D, "ED ES GS GT IS OU RSA"),
    _row("12.2", "DevicePrenotification", _D, "ED ES GS GT IS OU RSA"),
    _row("14.1", "RecordNetworkDataGAS", _N, "GT"),
)

SERVICE_REQUESTS: Mapping[str, ServiceRequest] = MappingProxyType({row.variant: row for row in _ROWS})
