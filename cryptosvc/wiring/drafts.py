"""`custodian draft`, `caller draft`: the record of a new custodian or caller, from a file that people can write."""

from pathlib import Path

from cryptosvc.config.genesis import CustodianEntry
from cryptosvc.config.provisioning import CallerEntry
from cryptosvc.config.reading import read_toml
from cryptosvc.core.canonical import canonical
from cryptosvc.core.custodian import custodian_document
from cryptosvc.core.names import SystemName
from cryptosvc.core.registry import caller_document
from cryptosvc.wiring.founding import custodian_of
from cryptosvc.wiring.provision import caller_of


def custodian(file: Path, system: str) -> bytes:
    """The record, canonical JSON, at version 1. Malformed: the file, or the key it names."""
    return canonical(custodian_document(custodian_of(read_toml(file, CustodianEntry), SystemName(system))))


def caller(file: Path, system: str, version: int) -> bytes:
    """The record, canonical JSON. Malformed: the file, or the certificate it names."""
    return canonical(caller_document(caller_of(read_toml(file, CallerEntry), SystemName(system), version)))
