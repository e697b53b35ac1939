"""governance.toml: strict, never laxer than the class table, and part of the policies' digest (G4.1 to G4.8, G5.13(b))."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryptosvc.adapters.policy.governance import GOVERNANCE_FILE, read_governance
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.core.custodian import Side
from cryptosvc.core.custody import Rules
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import DAY
from cryptosvc.core.quorum import QuorumRow

POLICIES = Path(__file__).resolve().parents[2] / "policies"
SHIPPED = (POLICIES / GOVERNANCE_FILE).read_text()
ROWS = """
[[quorum]]
act = "key.suspend"
class = "*"
people = 1
roles = ["security-officer"]

[[quorum]]
act = "key.*"
class = "*"
people = 3
roles = ["key-custodian"]
"""
LEAST = f"longest_open_days = 7\n{ROWS}"


def test_the_shipped_file_says_the_defaults():
    found = read_governance(SHIPPED.encode())
    assert found.custody == Rules()
    assert found.longest_seconds == 14 * DAY
    assert found.clock_tolerance_seconds == read_governance(LEAST.encode()).clock_tolerance_seconds == 30
    assert found.ecos_service_live is None
    assert found.rows[2] == QuorumRow("key.*", "root-oca", 3, frozenset({"key-custodian"}))


def test_every_setting_is_read():
    custody = """
[custody]
separated = [["b", "a"]]
relevant = [["csp", "dsp"]]
screening_standards = ["BS 7858:2019"]
clearance_days = 180
engagement_gap_days = 30
security_check = false
party = "user"
"""
    found = read_governance(
        f"longest_open_days = 7\nclock_tolerance_seconds = 300\necos_service_live = 2023-06-30\n{custody}{ROWS}".encode()
    )
    assert found.ecos_service_live == int(datetime(2023, 6, 30, tzinfo=UTC).timestamp())
    assert found.clock_tolerance_seconds == 300
    assert found.custody == Rules(
        separated=frozenset({("a", "b")}),
        relevant=frozenset({("csp", "dsp")}),
        screening_standards=frozenset({"BS 7858:2019"}),
        clearance_days=180,
        engagement_gap_days=30,
        security_check=False,
        party=Side.USER,
    )
    assert len(found.rows) == 2


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ("people = 3", "people = 0", "quorum.2", "1 to 16 people"),
        ("people = 3", "people = 17", "quorum.2", "1 to 16 people"),
        ("people = 3", "people = true", "quorum.2", "1 to 16 people"),
        ("people = 3", "people = 1", "quorum.2", "needs 3 at least"),
        ("people = 3", "people = 2", "quorum.2", "asks 2 for key.order of root-oca keys"),
        ('act = "key.*"', 'act = "keys.*"', "quorum.2", "no act is called so"),
        ('class = "*"\npeople = 3', 'class = "root-oka"\npeople = 3', "quorum.2", "no class is called so"),
        ('["key-custodian"]', '["custodian"]', "quorum.2", "names roles that count"),
        ('["key-custodian"]', "[]", "quorum.2", "names roles that count"),
        ('["key-custodian"]', '["key-custodian"]\nmore = 1', "quorum.2", "nothing else"),
        ('act = "key.suspend"', 'act = "*"', "quorum.1", "needs 3 at least"),
        ("= 7", "= 0", "longest_open_days", "a number from 1 to 31"),
        ("= 7", "= 32", "longest_open_days", "a number from 1 to 31"),
        ("= 7", "= 7\nclock_tolerance_seconds = 301", "clock_tolerance_seconds", "a number from 0 to 300"),
        ("= 7", "= 7\nclock_tolerance_seconds = -1", "clock_tolerance_seconds", "a number from 0 to 300"),
        ("longest_open_days = 7", "", "longest_open_days", "a number from 1 to 31"),
        ("= 7", '= 7\necos_service_live = "2023-06-30"', "ecos_service_live", "is a date"),
        ("= 7", "= 7\necos_service_live = 2023-06-30T00:00:00Z", "ecos_service_live", "is a date"),
        ("= 7", "= 7\nquorums = 1", "quorums", "is no setting"),
        ("= 7", "= 7\n[custody]\nclearance_days = 367", "custody.clearance_days", "from 1 to 366"),
        ("= 7", "= 7\n[custody]\nclearance = 1", "custody.clearance", "is no setting"),
        ("= 7", '= 7\n[custody]\nseparated = [["a", "a"]]', "custody.separated", "two different systems"),
        ("= 7", '= 7\n[custody]\nrelevant = [["a"]]', "custody.relevant", "two different systems"),
        (
            "= 7",
            "= 7\n[custody]\nscreening_standards = []",
            "custody.screening_standards",
            "at least one standard",
        ),
        ("= 7", '= 7\n[custody]\nsecurity_check = "no"', "custody.security_check", "true or false"),
        ("= 7", '= 7\n[custody]\nparty = "User"', "custody.party", '"dcc" or "user"'),
        (ROWS, "", "quorum", "is a list of rows"),
    ],
)
def test_what_is_unknown_or_too_lax_does_not_load_and_names_the_row(old, new, field, says):
    assert old in LEAST
    with pytest.raises(Malformed) as refused:
        read_governance(LEAST.replace(old, new, 1).encode())
    assert refused.value.field == field
    assert says in refused.value.message
    assert GOVERNANCE_FILE in refused.value.message


def test_a_row_that_decides_nothing_does_not_load():
    with pytest.raises(Malformed) as refused:
        read_governance(
            (LEAST + '[[quorum]]\nact = "key.order"\nclass = "*"\npeople = 3\nroles = ["witness"]').encode()
        )
    assert refused.value.field == "quorum.3"
    assert "decides nothing" in refused.value.message


def test_the_policies_digest_covers_the_file():
    files = {path.name: path.read_bytes() for path in POLICIES.iterdir() if path.is_file()}
    whole = parse_source(files)
    other = parse_source({**files, GOVERNANCE_FILE: files[GOVERNANCE_FILE] + b"# more\n"})
    without = parse_source({name: octets for name, octets in files.items() if name != GOVERNANCE_FILE})
    assert len({whole.digest, other.digest, without.digest}) == 3
    assert without.governance is None
    assert whole.governance == read_governance(files[GOVERNANCE_FILE])
