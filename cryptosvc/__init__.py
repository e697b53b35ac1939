"""cryptosvc: HSM-backed cryptographic processing for GB smart metering.

It reads what it is asked to sign. A request walks one corridor, once: identify, convert, inspect, gather,
judge, claim, perform, check, record, reply (`docs/request-path.md`).
"""

__version__ = "0.1.0"
