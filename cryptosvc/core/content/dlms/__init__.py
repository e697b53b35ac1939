"""DLMS security suite 0, as SMETS1 Devices have it: what is protected for a Device and what comes from one.

    apdu        plaintext xDLMS requests, read to the last octet
    framing     the service-specific and general ciphered APDUs around what is protected
    protection  contents of the corridor: requests, challenges, protected answers
    association the InitiateRequest in which a Device gets the dedicated key of an Application Association
    key_change  a Device's new key, to be wrapped under its master key
    profile     what stays configuration: our system titles, categories of Devices, what adds credit

Source: DLMS UA 1000-2 (Green Book) Ed. 8, 9.2.3, 9.5; IEC 62056-5-3; Smart Energy Code G2.44(c), (e), G2.44A.
"""
