"""Kinds of what is found by patterns and check digits, and whether what finds them is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "presidio-analyzer"
INSTALL = "pip install 'llm-platform[redaction]'"
NEED_A_MODEL = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "AGE", "ID", "MEDICAL_CONDITION"})
"""Kinds that no pattern finds. Presidio leaves them to models, which are not fetched here."""


def installed() -> str | None:
    """Name and version of what finds them, which decides what is found; None where it is not installed."""
    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return None


KINDS = {
    "ABA_ROUTING_NUMBER": "AbaRoutingRecognizer",
    "AU_ABN": "AuAbnRecognizer",
    "AU_ACN": "AuAcnRecognizer",
    "AU_MEDICARE": "AuMedicareRecognizer",
    "AU_TFN": "AuTfnRecognizer",
    "CA_POSTAL_CODE": "CaPostalCodeRecognizer",
    "CA_SIN": "CaSinRecognizer",
    "CREDIT_CARD": "CreditCardRecognizer",
    "CRYPTO": "CryptoRecognizer",
    "DATE_TIME": "DateRecognizer",
    "DE_BSNR": "DeBsnrRecognizer",
    "DE_FUEHRERSCHEIN": "DeFuehrerscheinRecognizer",
    "DE_HANDELSREGISTER": "DeHandelsregisterRecognizer",
    "DE_HEALTH_INSURANCE": "DeHealthInsuranceRecognizer",
    "DE_ID_CARD": "DeIdCardRecognizer",
    "DE_KFZ": "DeKfzRecognizer",
    "DE_LANR": "DeLanrRecognizer",
    "DE_PASSPORT": "DePassportRecognizer",
    "DE_PLZ": "DePlzRecognizer",
    "DE_SOCIAL_SECURITY": "DeSocialSecurityRecognizer",
    "DE_TAX_ID": "DeTaxIdRecognizer",
    "DE_TAX_NUMBER": "DeTaxNumberRecognizer",
    "DE_VAT_ID": "DeVatIdRecognizer",
    "EMAIL_ADDRESS": "EmailRecognizer",
    "ES_NIE": "EsNieRecognizer",
    "ES_NIF": "EsNifRecognizer",
    "ES_PASSPORT": "EsPassportRecognizer",
    "FI_PERSONAL_IDENTITY_CODE": "FiPersonalIdentityCodeRecognizer",
    "IBAN_CODE": "IbanRecognizer",
    "IN_AADHAAR": "InAadhaarRecognizer",
    "IN_GSTIN": "InGstinRecognizer",
    "IN_PAN": "InPanRecognizer",
    "IN_PASSPORT": "InPassportRecognizer",
    "IN_VEHICLE_REGISTRATION": "InVehicleRegistrationRecognizer",
    "IN_VOTER": "InVoterRecognizer",
    "IP_ADDRESS": "IpRecognizer",
    "IT_DRIVER_LICENSE": "ItDriverLicenseRecognizer",
    "IT_FISCAL_CODE": "ItFiscalCodeRecognizer",
    "IT_IDENTITY_CARD": "ItIdentityCardRecognizer",
    "IT_PASSPORT": "ItPassportRecognizer",
    "IT_VAT_CODE": "ItVatCodeRecognizer",
    "KR_BRN": "KrBrnRecognizer",
    "KR_DRIVER_LICENSE": "KrDriverLicenseRecognizer",
    "KR_FRN": "KrFrnRecognizer",
    "KR_PASSPORT": "KrPassportRecognizer",
    "KR_RRN": "KrRrnRecognizer",
    "MAC_ADDRESS": "MacAddressRecognizer",
    "MEDICAL_LICENSE": "MedicalLicenseRecognizer",
    "NG_NIN": "NgNinRecognizer",
    "NG_VEHICLE_REGISTRATION": "NgVehicleRegistrationRecognizer",
    "PHONE_NUMBER": "PhoneRecognizer",
    "PH_PASSPORT": "PhPassportRecognizer",
    "PH_TIN": "PhTinRecognizer",
    "PH_UMID": "PhUmidRecognizer",
    "PL_PESEL": "PlPeselRecognizer",
    "SE_ORGANISATIONSNUMMER": "SeOrganisationsnummerRecognizer",
    "SE_PERSONNUMMER": "SePersonnummerRecognizer",
    "SG_NRIC_FIN": "SgFinRecognizer",
    "SG_UEN": "SgUenRecognizer",
    "TH_TNIN": "ThTninRecognizer",
    "TR_LICENSE_PLATE": "TrLicensePlateRecognizer",
    "TR_NATIONAL_ID": "TrNationalIdRecognizer",
    "UK_DRIVING_LICENCE": "UkDrivingLicenceRecognizer",
    "UK_NHS": "NhsRecognizer",
    "UK_NINO": "UkNinoRecognizer",
    "UK_PASSPORT": "UkPassportRecognizer",
    "UK_POSTCODE": "UkPostcodeRecognizer",
    "UK_VEHICLE_REGISTRATION": "UkVehicleRegistrationRecognizer",
    "URL": "UrlRecognizer",
    "US_BANK_NUMBER": "UsBankRecognizer",
    "US_CLAIM_NUMBER": "UsClaimNumberRecognizer",
    "US_DRIVER_LICENSE": "UsLicenseRecognizer",
    "US_HEALTH_INSURANCE_MEMBER_ID": "UsHealthInsuranceMemberIdRecognizer",
    "US_ITIN": "UsItinRecognizer",
    "US_MBI": "UsMbiRecognizer",
    "US_NPI": "UsNpiRecognizer",
    "US_PASSPORT": "UsPassportRecognizer",
    "US_PRESCRIPTION_NUMBER": "UsPrescriptionNumberRecognizer",
    "US_PRIOR_AUTHORIZATION_NUMBER": "UsPriorAuthorizationNumberRecognizer",
    "US_PROVIDER_TAX_ID": "UsProviderTaxIdRecognizer",
    "US_REFERRAL_NUMBER": "UsReferralNumberRecognizer",
    "US_SSN": "UsSsnRecognizer",
    "UUID": "UuidRecognizer",
    "ZA_COMPANY_REGISTRATION": "ZaCompanyRegistrationRecognizer",
    "ZA_DRIVER_LICENSE": "ZaDriverLicenseRecognizer",
    "ZA_ID_NUMBER": "ZaIdNumberRecognizer",
    "ZA_INCOME_TAX_NUMBER": "ZaIncomeTaxNumberRecognizer",
    "ZA_LICENSE_PLATE": "ZaLicensePlateRecognizer",
    "ZA_PASSPORT": "ZaPassportRecognizer",
    "ZA_TRAFFIC_REGISTER_NUMBER": "ZaTrafficRegisterNumberRecognizer",
    "ZA_VAT_NUMBER": "ZaVatNumberRecognizer",
}
"""Kind → the recognizer of Presidio's that finds it, whatever the language of a text."""
