"""GBCS Pre-Commands, read to their last byte before a command-signing key may sign them.

precommand   the form: parse, bind, assemble, emit
framing      the General-Signing APDU around a payload
codes        message code → use case, payload kind, who may sign it, Service Reference Variants
dlms         Access-Request payloads      items       what each critical DLMS use case may touch
gbz          ZigBee payloads              templates   what each critical GBZ use case may carry
asn1         strict DER, typed            structures  the ASN.1 payload of each message code
profile      what stays configuration
"""
