"""A service that watches its own log: what is out of the ordinary becomes an entry, and a receiver on loopback hears."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cryptosvc.client import errors, messages
from tests.deployment import KEY, Deployment, make_deployment, pre_command_request
from tests.ntp_server import SECOND, ntp

HEARD_WITHIN_SECONDS = 30


@contextmanager
def receiver() -> Iterator[tuple[str, "queue.Queue[dict]"]]:
    heard: queue.Queue[dict] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hear(heard: "queue.Queue[dict]", title: str) -> dict:
    """The next event of this rule; others, as of a clock that nothing keeps in time here, are passed over."""
    while True:
        event = heard.get(timeout=HEARD_WITHIN_SECONDS)
        if event["finding_info"]["title"] == title:
            return event


def ask_as_no_auditor(deployment: Deployment) -> None:
    with (
        deployment.client("supplier") as client,
        pytest.raises(errors.NotPermitted),
    ):
        list(client.query(messages.query({})))


def test_clocks_that_differ_are_found_by_a_running_service(tmp_path: Path):
    """Two kinds of time source, of which one is an hour ahead (G2.47): recorded, alarmed, told, and said in every entry."""
    deployment = make_deployment(tmp_path / "deployment", workers=1)
    with receiver() as (url, heard), ntp(ahead=3600 * SECOND) as hubs, ntp() as other:
        with deployment.config.open("a") as config:
            config.write(
                f'\n[watch]\n[[watch.receivers]]\nname = "siem"\nurl = "{url}"\n\n[time]\nevery_seconds = 1.0\n'
                f'[[time.sources]]\nname = "hubs"\nkind = "network"\naddress = "127.0.0.1:{hubs}"\n'
                f'[[time.sources]]\nname = "other"\nkind = "independent"\naddress = "127.0.0.1:{other}"\n'
            )
        with deployment.serving():
            event = hear(heard, "clocks-differ")
            with deployment.client() as client:
                client.sign(pre_command_request(1))
        log = deployment.verified_log()
    assert event["unmapped"]["clause"] == "G2.47"
    assert event["finding_info"]["desc"] != "clocks-differ"  # a sentence
    clocks = log.of_kind("clock")
    assert {entry.fields["facts"]["rule"] for entry in clocks} == {
        "clock/network-time",
        "clock/own-from-network",
    }
    alarms = [entry for entry in log.of_kind("alarm") if entry.fields["operation"] == "clocks-differ"]
    assert {entry.fields["facts"]["value"] for entry in alarms} == {
        entry.fields["facts"]["rule"] for entry in clocks
    }
    (use,) = log.uses(KEY)
    assert use.fields["time_quality"] == "differing"


@pytest.mark.parametrize("on_postgresql", [False, True])
def test_an_alarm_is_recorded_and_told_once_across_a_restart(
    tmp_path: Path, request: pytest.FixtureRequest, *, on_postgresql: bool
):
    store = "sqlite:///cryptosvc.db"
    if on_postgresql:
        store = request.getfixturevalue("postgres_server").make_database()
    deployment = make_deployment(tmp_path / "deployment", store=store, workers=2)
    with receiver() as (url, heard):
        with deployment.config.open("a") as config:
            config.write(f'\n[watch]\n[[watch.receivers]]\nname = "siem"\nurl = "{url}"\n')
        with deployment.serving():
            ask_as_no_auditor(deployment)
            event = hear(heard, "log-read-refused")
            ask_as_no_auditor(deployment)
        deployment.json("audit", "export", "--config", str(deployment.config), str(tmp_path / "log.export"))
        with deployment.serving():
            exported = hear(heard, "log-export")
        log = deployment.verified_log()
    assert (event["class_uid"], event["unmapped"]["clause"]) == (2004, "G2.7")
    alarms = [entry for entry in log.of_kind("alarm") if entry.fields["operation"] == "log-read-refused"]
    (alarm,) = alarms
    assert alarm.fields["facts"]["cause"] == event["finding_info"]["uid"]
    assert alarm.fields["facts"]["severity"] == "medium"
    (leaf,) = event["unmapped"]["leaves"]
    assert log.entries[leaf].fields["rule"] == "audit/not-auditor"
    assert "supplier" not in json.dumps([event, exported])
    causes = [entry.fields["facts"]["cause"] for entry in log.of_kind("alarm")]
    assert len(causes) == len(set(causes))
    assert len(log.of_kind("watch")) == 1
