"""Content: what a payload turned out to be, after it was parsed to its last byte.

Each form has one module here with the same three functions:

    parse(payload, profile)            bytes → a frozen subclass of `Content`, or Malformed. Nothing about the key.
    bind(content, key, profile)        raises Forbidden unless this content is for this very key (issuer, own public
                                       key, originator, role, …). Called by `core/judge.py`, once per request.
    assemble(content, signature, key)  r‖s (64 octets) → the finished artefact (certificate, Signed Pre-Command, …).

`core/content/forms.py` is the one table from `ContentForm` to those functions.

What is signed is always `Content.signed_bytes`, ECDSA P-256 over SHA-256 of exactly those bytes; they are taken
from, or built out of, the parsed payload, never handed in by the caller as a digest.
"""
