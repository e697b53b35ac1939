"""Ceremony files: the ready ones stand, and what cannot be held is refused before anybody meets."""

import copy
import tomllib

import pytest

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core.ceremony import fields
from cryptosvc.core.ceremony.printed import script_markdown
from cryptosvc.core.ceremony.rows import RESULTS, ROWS, ActKind
from cryptosvc.core.ceremony.script import document, read
from cryptosvc.core.errors import Malformed
from cryptosvc.core.keyclass import KEY_CLASSES
from tests.ceremonies import FOLDER, READY, script

NAMED_BY_THE_ISSUES = {
    "root-oca",
    "issuing-oca",
    "command-signing",
    "issuing-oca-renewal",
    "emergency-suspension",
    "compromise",
    "destruction",
    "recovery-key-split",
    "contingency-key-split",
    "recovery-key-recombination",
    "decommissioning",
    "transfer-export",
    "transfer-import",
}


def raw(name: str) -> dict:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def refused(document: dict) -> Malformed:
    with pytest.raises(Malformed) as caught:
        read(document)
    return caught.value


def test_the_ready_files_are_there():
    assert {path.stem for path in READY} == NAMED_BY_THE_ISSUES


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_each_ready_file_is_a_ceremony_that_can_be_held(path):
    found = read_ceremony(path)

    assert read(document(found.script)) == found.script
    assert len(found.sha256) == 64
    for act in found.script.acts:
        assert f"Clause {act.clause}." in act.sentence
        assert fields.clause(act.clause)
        assert "{" not in act.sentence
    assert {act.kind for act in found.script.acts} >= {ActKind.CHECKPOINT, ActKind.ATTEST}


def test_the_ready_files_show_every_act_but_those_of_day_to_day_work():
    used = {act.kind for path in READY for act in read_ceremony(path).script.acts}
    assert set(ActKind) - used == {ActKind.RESUME, ActKind.RENEW, ActKind.BACK_UP}


def test_a_plan_says_in_words_what_will_be_done_under_which_clause():
    text = script_markdown(script("root-oca"))

    assert "Generate the key root-oca-1 of class root-oca for Remote Party Role 0" in text
    assert "Clause G2.60(a)." in text
    assert "typed to confirm: `self-sign-certificate root-oca-1.certificate`" in text
    assert "`keyCertSign`" in text


def test_clauses_are_those_that_bind_the_party():
    of_user = raw("destruction")
    of_user["parameters"]["party"] = "user"
    clauses = {act.kind: act.clause for act in read(of_user).acts}

    assert clauses[ActKind.DESTROY] == "G5.24(c)"
    assert {act.kind: act.clause for act in script("destruction").acts}[ActKind.DESTROY] == "G5.13(c)"
    split = {act.kind: act.clause for act in script("contingency-key-split").acts}
    assert split[ActKind.SPLIT_KEY] == "G2.44B(b)"


def test_what_an_act_implies_is_expected_without_being_written():
    plain = raw("destruction")
    destroy = next(act for act in plain["acts"] if act["act"] == "destroy")
    del destroy["expect"]

    assert read(plain) == script("destruction")


def test_every_act_of_the_table_reads_what_it_says():
    for kind, row in ROWS.items():
        names = [field.name for field in row.fields]
        assert len(set(names)) == len(names), kind
        assert row.results <= RESULTS.keys(), kind
        assert not row.subject or row.subject in names, kind
        assert not row.signer or row.signer in row.needs, kind
        settings = {name: f"<{name}>" for name in names}
        said = row.sentence_of(settings)
        hidden = set() if kind is not ActKind.ATTEST else {"clause"}
        assert all(f"<{name}>" in said for name in set(names) - hidden), kind


# each: file, where (path of keys), value (None removes), rule, field
WRONG = [
    ("root-oca", ("titel",), "x", "ceremony/unknown-key", "titel"),
    ("root-oca", ("parameters", "modul"), "x", "ceremony/unknown-key", "parameters.modul"),
    ("root-oca", ("people", 0, "names"), "x", "ceremony/unknown-key", "people.0.names"),
    ("root-oca", ("acts", 2, "klass"), "x", "ceremony/unknown-key", "acts.2.klass"),
    ("root-oca", ("acts", 2, "expect", "statt"), "x", "ceremony/unknown-key", "acts.2.expect.statt"),
    ("root-oca", ("acts", 2, "expect", "entries"), 0, "ceremony/unknown-key", "acts.2.expect.entries"),
    ("issuing-oca", ("given", 0, "klass"), "x", "ceremony/unknown-key", "given.0.klass"),
    ("root-oca", ("title",), None, "ceremony/missing", "title"),
    ("root-oca", ("parameters",), None, "ceremony/missing", "parameters"),
    ("root-oca", ("acts", 2, "class"), None, "ceremony/missing", "acts.2.class"),
    ("root-oca", ("acts", 2, "act"), None, "ceremony/missing", "acts.2.act"),
    ("root-oca", ("acts", 2, "act"), "generate", "ceremony/value", "acts.2.act"),
    ("root-oca", ("acts", 2, "class"), "root", "ceremony/value", "acts.2.class"),
    ("root-oca", ("acts", 2, "key"), "a b", "ceremony/value", "acts.2.key"),
    ("root-oca", ("acts", 2, "key"), 7, "ceremony/value", "acts.2.key"),
    ("root-oca", ("acts", 2, "role"), 9, "ceremony/value", "acts.2.role"),
    ("root-oca", ("acts", 2, "role"), True, "ceremony/value", "acts.2.role"),
    ("root-oca", ("acts", 2, "role"), 7, "ceremony/role", "acts.2.role"),
    ("root-oca", ("acts", 4, "days"), 0, "ceremony/value", "acts.4.days"),
    ("root-oca", ("acts", 4, "days"), True, "ceremony/value", "acts.4.days"),
    (
        "root-oca",
        ("acts", 4, "expect", "key_usage"),
        ["keyCertsign"],
        "ceremony/value",
        "acts.4.expect.key_usage",
    ),
    ("root-oca", ("acts", 4, "expect", "key_usage"), "cRLSign", "ceremony/value", "acts.4.expect.key_usage"),
    (
        "root-oca",
        ("acts", 4, "expect", "validity_days"),
        1,
        "ceremony/expectation",
        "acts.4.expect.validity_days",
    ),
    ("root-oca", ("acts", 2, "expect", "state"), "active", "ceremony/expectation", "acts.2.expect.state"),
    ("root-oca", ("purpose",), "two\nlines", "ceremony/value", "purpose"),
    ("root-oca", ("purpose",), "`rm`", "ceremony/value", "purpose"),
    ("root-oca", ("location",), "", "ceremony/value", "location"),
    ("root-oca", ("parameters", "environment"), "prod", "ceremony/value", "parameters.environment"),
    ("root-oca", ("acts",), [], "ceremony/value", "acts"),
    ("root-oca", ("acts",), "all", "ceremony/value", "acts"),
    ("root-oca", ("acts", 0), "all", "ceremony/value", "acts.0"),
    ("root-oca", ("people", 2, "number"), 2, "ceremony/quorum", "people"),
    ("root-oca", ("people", 2, "number"), 13, "ceremony/value", "people"),
    ("root-oca", ("people", 2, "role"), "witness", "ceremony/people", "people"),
    ("root-oca", ("people", 3, "role"), "auditor", "ceremony/people", "acts.0.role"),
    ("root-oca", ("acts", 3, "key"), "root-oca-2", "ceremony/not-there", "acts.3.key"),
    ("root-oca", ("acts", 4, "certificate"), "root-oca-1", "ceremony/name-twice", "acts.4.certificate"),
    ("root-oca", ("acts", 7, "file"), "root-oca-1.der", "ceremony/name-twice", "acts.7.file"),
    ("root-oca", ("acts", 5, "issuer"), "root-oca-1.certificate", "ceremony/wrong-thing", "acts.5.issuer"),
    ("root-oca", ("acts", 5, "act"), "sign-crl", "ceremony/purpose", "acts.5"),
    ("issuing-oca", ("given", 0, "class"), "command-signing", "ceremony/purpose", "acts.4"),
    ("issuing-oca", ("given", 0, "state"), "suspended", "ceremony/state", "acts.4"),
    ("issuing-oca", ("given", 0, "class"), None, "ceremony/value", "given.0"),
    ("issuing-oca", ("given", 0, "key"), "x", "ceremony/value", "given.0"),
    ("issuing-oca", ("given", 0, "fingerprint"), "00", "ceremony/value", "given.0.fingerprint"),
    ("issuing-oca", ("acts", 4, "subject"), "root-oca-1", "ceremony/wrong-thing", "acts.4.request"),
    ("issuing-oca", ("acts", 4, "profile"), "organisation-certificate", "ceremony/purpose", "acts.4"),
    ("issuing-oca-renewal", ("acts", 9, "by"), "issuing-oca-1", "ceremony/wrong-thing", "acts.9.by"),
    ("issuing-oca-renewal", ("acts", 9, "by"), "root-oca-1", "ceremony/wrong-thing", "acts.9.by"),
    ("command-signing", ("acts", 2, "eui64"), "90-b3-D5-1F-30-00-00-02", "ceremony/value", "acts.2.eui64"),
    ("compromise", ("acts", 1, "since"), "2026-03-01", "ceremony/value", "acts.1.since"),
    ("compromise", ("acts", 1, "since"), "2026-02-30T09:30:00Z", "ceremony/value", "acts.1.since"),
    ("compromise", ("acts", 2, "reason"), "certificateHold", "ceremony/value", "acts.2.reason"),
    ("compromise", ("given", 2, "key"), "nobody", "ceremony/not-there", "given.2.key"),
    ("compromise", ("given", 2, "name"), "root-oca-1", "ceremony/name-twice", "given.2.name"),
    ("destruction", ("given", 0, "state"), "active", "ceremony/state", "acts.2"),
    ("destruction", ("given", 0, "state"), "destroyed", "ceremony/state", "acts.2"),
    (
        "destruction",
        ("acts", 2, "expect", "objects_left"),
        1,
        "ceremony/expectation",
        "acts.2.expect.objects_left",
    ),
    ("recovery-key-split", ("people", 3, "number"), 4, "ceremony/people", "people"),
    ("recovery-key-split", ("acts", 7, "threshold"), 1, "ceremony/split", "acts.7.threshold"),
    ("recovery-key-split", ("acts", 7, "threshold"), 6, "ceremony/split", "acts.7.threshold"),
    ("recovery-key-recombination", ("given", 0, "split"), False, "ceremony/split", "acts.3.key"),
    ("decommissioning", ("acts", 10, "system"), "dcc-cos", "ceremony/wrong-thing", "acts.10.system"),
    (
        "decommissioning",
        ("acts", 3, "certificate"),
        "tcos-commands-1.certificate",
        "ceremony/state",
        "acts.3.certificate",
    ),
]


@pytest.mark.parametrize(("file", "where", "value", "rule", "field"), WRONG)
def test_what_is_wrong_is_refused_with_the_path_of_the_key(file, where, value, rule, field):
    changed = copy.deepcopy(raw(file))
    inner = changed
    for part in where[:-1]:
        inner = inner.setdefault(part, {}) if isinstance(part, str) else inner[part]
    if value is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value

    error = refused(changed)

    assert (error.rule, error.field) == (rule, field)


def test_a_misspelt_key_is_answered_with_the_one_that_was_meant():
    changed = raw("root-oca")
    changed["acts"][2]["clas"] = changed["acts"][2].pop("class")
    assert "did you mean 'class'" in refused(changed).message


@pytest.mark.parametrize("act", range(2, 11))
def test_no_key_and_no_certificate_may_be_left_when_a_system_is_decommissioned(act):
    changed = raw("decommissioning")
    left = changed["acts"].pop(act)
    error = refused(changed) if left["act"] != "decommission-system" else None

    if error is None:
        assert read(changed)
    else:
        assert error.rule in {"ceremony/left-over", "ceremony/state"}


def test_a_key_that_derives_is_asked_for_no_request_and_certified_without():
    changed = raw("command-signing")
    changed["acts"][2]["class"] = "key-agreement"
    error = refused(changed)
    assert (error.rule, error.clause, error.field) == ("ceremony/purpose", "G2.44(b)", "acts.3")
    assert "cryptosvc key request" in error.message
    assert [act["act"] for act in changed["acts"][3:5]] == ["certification-request", "export-public"]
    del changed["acts"][3:5]
    for act in changed["acts"]:
        act.get("expect", {}).pop("key_usage", None)
    assert read(changed)


def test_a_key_in_parts_signs_nothing_until_it_is_put_together():
    changed = raw("recovery-key-recombination")
    request = {"act": "certification-request", "key": "recovery-1", "request": "r", "common_name": "Recovery"}
    changed["acts"].insert(3, request)
    assert refused(changed).rule == "ceremony/split"
    changed["acts"].insert(5, changed["acts"].pop(3))
    assert changed["acts"][3]["act"] == "recombine-key"
    assert read(changed)


@pytest.mark.parametrize(("file", "position"), [("destruction", 3), ("recovery-key-split", 8)])
def test_what_is_no_whole_key_is_not_backed_up(file, position):
    changed = raw(file)
    key = next(act["key"] for act in changed["acts"] if "key" in act)
    changed["acts"].insert(
        position, {"act": "back-up", "key": key, "copy": "c-1", "place": "the safe", "evidence": "copy"}
    )
    assert refused(changed).field == f"acts.{position}.key"
    changed["acts"].insert(position - 1, changed["acts"].pop(position))
    assert read(changed)


@pytest.mark.parametrize("order", [(4, 3), (3, 2)])
def test_nothing_is_used_before_it_is_made_or_allowed(order):
    changed = raw("root-oca")
    first, second = order
    changed["acts"][first], changed["acts"][second] = changed["acts"][second], changed["acts"][first]
    assert refused(changed).rule in {"ceremony/not-there", "ceremony/state"}


@pytest.mark.parametrize("name", KEY_CLASSES)
def test_fewer_custodians_than_the_class_asks_for_cannot_meet(name):
    quorum = KEY_CLASSES[name].quorum
    plan = {
        **dict.fromkeys(("title", "purpose", "location"), "x"),
        "clause": "G5.13(b)",
        "parameters": {"party": "dcc", "environment": "test", "system": "s", "module": "m"},
        "people": [{"role": "key-custodian", "number": quorum + 1}],
        "acts": [
            {
                "act": "generate-key",
                "key": "k",
                "class": name,
                "label": "k",
                "classification": "secret",
                "responsible": "somebody",
            }
        ],
    }
    assert read(plan)
    plan["people"] = [{"role": "key-custodian", "number": quorum}]
    assert refused(plan).rule == "ceremony/quorum"  # nobody approves their own proposal
    plan["people"].append({"role": "ceremony-administrator", "number": 1})
    assert read(plan)
    plan["people"][1]["role"] = "witness"
    assert refused(plan).rule == "ceremony/quorum"
    plan["people"] = [
        {"role": "key-custodian", "number": quorum - 1 or 1},
        {"role": "ceremony-administrator", "number": 5},
    ]
    if quorum > 1:
        assert refused(plan).rule == "ceremony/quorum"


@pytest.mark.parametrize("text", ["G2.60", "G2.60(a)", "G2.22B(d)", "G3.23(a)(iii)", "G11.5(j)", "G2.44B"])
def test_clauses_of_section_g_are_clauses(text):
    assert fields.clause(text) == text


@pytest.mark.parametrize(
    "text", ["", "2.60", "G2", "G2.60a", "G2.60(a", "g2.60", "G2.60 (a)", "H2.1", "G02.6", "G2.60(A)", 2.6]
)
def test_what_is_no_clause_is_refused(text):
    changed = raw("root-oca")
    changed["clause"] = text
    assert refused(changed).field == "clause"


def test_a_file_that_is_no_toml_or_not_there_says_so(tmp_path):
    (tmp_path / "a.toml").write_text("title = ")
    for file, rule in (("a.toml", "config/toml"), ("b.toml", "config/unreadable")):
        with pytest.raises(Malformed) as caught:
            read_ceremony(tmp_path / file)
        assert caught.value.rule == rule


def test_dates_and_fractions_of_toml_are_no_values_of_a_ceremony():
    for toml in ("2026-03-01T09:30:00Z", "1.5", "[1]"):
        changed = raw("compromise")
        changed["acts"][1]["since"] = tomllib.loads(f"x = {toml}")["x"]
        assert refused(changed).field == "acts.1.since"
