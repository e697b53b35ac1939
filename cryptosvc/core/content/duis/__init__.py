"""DUIS documents: the XML that Users and the DCC exchange, read whole, then signed as enveloped XML signatures.

    sanitise    octets → a tree, with nothing in it that a parser or canonicaliser could read two ways
    profile     the compiled schema and the bounds, made once from configuration
    variants    Service Reference Variant → body element, kind, Eligible User Roles (a table of facts)
    embedded    the GBCS message inside a Signed Pre-Command or a Pre-Command response
    xmldsig     ds:SignedInfo as canonical octets, and the ds:Signature element
    document    parse, bind, assemble: what `core/content/forms.py` calls

Source: DUIS XML schema 5.4 (November 2025); XML Signature Syntax and Processing 1.1; Canonical XML 1.0; Exclusive XML
Canonicalization 1.0.
"""
