"""What the log withholds is sealed under a key of the module, and deleted with it under dual control (G2.17, G2.18)."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests import governed
from tests.governed import Office

PERIOD = "log-2026"


def test_a_retention_period_ends_and_its_withheld_values_are_gone(tmp_path: Path) -> None:
    deployment, people = governed.founded(tmp_path)
    config = ("--config", str(deployment.config))

    def refused(*arguments: str) -> str:
        done = deployment.run("audit", *arguments, *config, "--json")
        assert done.returncode != 0, done.stdout
        return str(json.loads(done.stdout)["error"]["rule"])

    with deployment.serving(), deployment.client("office") as client:
        office = Office(client, people)
        office.key(PERIOD, "log-authentication")
        assert refused("seal", "log-head", "--before", "2020-01-01") == "segment/key"
        assert refused("seal", PERIOD, "--before", "2020-01-01") == "segment/key-state"
        office.carry("key.activate", PERIOD)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        done = deployment.json("audit", "seal", PERIOD, "--before", now, *config)
        assert int(done["entries"]) > 5
        whole = deployment.verified_log()  # read as before
        told = [one for one in whole.of_kind("governed") if "principal" in one.withheld]
        assert told[0].withheld["principal"][1] == "office"
        # to a file and back: the file the log knows, and no other
        file = tmp_path / "segment"
        assert deployment.json("audit", "archive", PERIOD, str(file), *config)["entries"] == done["entries"]
        (tmp_path / "other").write_bytes(file.read_bytes() + b"\n")
        assert refused("bring-back", str(tmp_path / "other")) == "segment/archive"
        back = deployment.json("audit", "bring-back", str(file), *config)
        assert (back["key"], back["entries"]) == (PERIOD, done["entries"])
        assert refused("retire", PERIOD) == "segment/not-destroyed"
        office.carry("key.deactivate", PERIOD)
        office.carry("key.destroy", PERIOD)
        deployment.json("destruction", "certify", PERIOD, str(tmp_path / "gone.json"), *config)
        assert refused("bring-back", str(file)) == "segment/destroyed"
        gone = deployment.json("audit", "retire", PERIOD, *config)
        assert gone["entries"] == done["entries"]
        office.carry(
            "key.order",
            "after",
            **{"class": "tls", "module": "softhsm", "classification": "secret", "responsible": "Ada"},
        )
    log = deployment.verified_log()  # every proof and every change of a record as before
    stop = int(done["stop"])
    assert [one.octets for one in log.entries[:stop]] == [one.octets for one in whole.entries[:stop]]
    assert not any(one.withheld for one in log.entries[:stop] if one.fields["kind"] == "governed")
    assert any(one.withheld for one in log.entries[stop:] if one.fields["kind"] == "governed")
    ((retired,), (sealed,)) = log.of_kind("retired"), log.of_kind("sealed")
    assert retired.fields["facts"] == {"key": PERIOD, "entries": done["entries"]}
    assert (sealed.fields["facts"]["start"], sealed.fields["facts"]["stop"]) == ("0", str(stop))
