"""1,100 random edits of a real log's export and of a bundle of it: 1,100 caught, each by name, by both verifiers."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from cryptosvc.adapters import evidence_bundle, export
from cryptosvc.core.errors import CryptosvcError
from tests.bundles import BundledLog, entries_of
from tests.second_verifier import rule_of, same
from tests.tampering import EDITS, Sample, tampered

pytestmark = pytest.mark.xdist_group("quickstart")

EACH = 50
"""Edits of a kind, of an export and of a bundle: 11 kinds × 2 × 50 = 1,100."""
MAY_BE = {
    ("roll back", 0): {"export/truncated"},
    ("roll back", 1): {"bundle/rolled-back"},
    ("fork", 0): {"export/root"},
    ("fork", 1): {"merkle/consistency"},
    ("swap", 1): {"bundle/order"},
    ("edit index", 0): {"export/record-differs"},
    ("edit proof", 0): {"checkpoint/signature"},
    ("leave a hash", 1): {"export/entry"},
}


@pytest.fixture(scope="session")
def sample(quickstart, tmp_path_factory) -> Sample:
    """What the quickstart left: a service that signed, refused and was read, with its registry and policies."""
    before, lines = entries_of((quickstart.folder / "log.export").read_bytes())
    entries = [tuple(line.split(b"\t")) for line in lines]
    log = BundledLog(json.loads(before[0])["origin"], entries)  # type: ignore[arg-type]  # pairs
    told = [json.loads(entry) for entry, _ in entries]
    answer = [at for at, one in enumerate(told) if one["kind"] in {"use", "refusal"}]
    beside = [
        at for at, one in enumerate(told) if one["kind"] in {"key-record", "policy-set", "service-start"}
    ]
    assert min(len(answer), len(beside)) > 3
    return Sample(tmp_path_factory.mktemp("tampering"), log, answer, beside, len(entries) * 2 // 3)


def first_rule(octets: bytes, sample: Sample, which: int, folder: Path) -> str:
    path = folder / "tampered"
    path.write_bytes(octets)
    try:
        if which and evidence_bundle.is_bundle(path):
            evidence_bundle.verify_bundle(path, sample.log.spki, kept=sample.kept)
        else:
            export.verify_export(path, sample.log.spki, kept=sample.kept, processes=1)
    except CryptosvcError as error:
        return error.rule
    return ""


@pytest.mark.parametrize("which", [0, 1], ids=["export", "bundle"])
def test_untouched_they_verify(sample: Sample, tmp_path: Path, which: int):
    octets = (sample.export, sample.bundle)[which]
    assert first_rule(octets, sample, which, tmp_path) == ""
    assert rule_of(octets, sample.log.key.public_key(), sample.kept.decode()) == ""


@pytest.mark.parametrize("which", [0, 1], ids=["export", "bundle"])
@pytest.mark.parametrize("kind", list(EDITS))
def test_every_edit_is_caught_by_name_by_both_verifiers(
    sample: Sample, tmp_path: Path, kind: str, which: int
):
    draw = random.Random(f"{kind}/{which}")
    original = (sample.export, sample.bundle)[which]
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(EACH):
        octets = tampered(original, lambda: EDITS[kind][which](sample, draw))
        first = first_rule(octets, sample, which, tmp_path)
        found[first, rule_of(octets, sample.log.key.public_key(), sample.kept.decode())] += 1
    assert found.total() == EACH
    assert not [pair for pair in found if not all(pair) or not same(*pair)], found
    assert {first for first, _ in found} <= MAY_BE.get((kind, which), {first for first, _ in found}), found
