"""GBCS messages: Pre-Commands, read to their last byte before a key may sign them, and what carries a MAC.

precommand   the form: parse, bind, assemble, emit
framing      the General-Signing APDU around a payload
codes        message code → use case, payload kind, who may sign it, Service Reference Variants
dlms         Access-Request payloads      items       what each critical DLMS use case may touch
gbz          ZigBee payloads              templates   what each critical GBZ use case may carry
asn1         strict DER, typed            structures  the ASN.1 payload of each message code
profile      what stays configuration

mac          Commands that get a MAC, and every message that has one
envelope     the general-ciphering wrapper      answer      the APDU inside, with its signature field
agreement    OtherInfo, initialisation vector, key derivation
attributes   what is encrypted in a Response    top_up      prepayment tokens (UTRN)
"""
