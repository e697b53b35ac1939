"""The quickstart on PostgreSQL, and what SIGTERM does to a service."""

import json
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import end, run_quickstart

pytestmark = pytest.mark.xdist_group("quickstart-postgresql")


def test_the_whole_demonstration_and_a_clean_end(tmp_path, postgres_server):
    url = postgres_server.make_database()
    made = run_quickstart(tmp_path / "quickstart", QUICKSTART_STORE=url)
    try:
        assert "entries verified from genesis to checkpoint" in made.output
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            row = connection.execute("SELECT system, environment FROM deployment").fetchone()
        assert row == ("quickstart", "test")

        workers = made.workers()
        os.kill(made.process_id, signal.SIGTERM)
        for _ in range(200):
            if not any(Path(f"/proc/{process}").exists() for process in (made.process_id, *workers)):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the service is still there after 20 s")
        lines = [
            json.loads(line)
            for line in (made.folder / "service.log").read_text().splitlines()
            if line[0] == "{"
        ]
        assert [line["event"] for line in lines].count("worker stopped") == len(workers)
        assert lines[-1]["event"] == "stopped"
        assert not any(line["level"] in {"error", "critical"} for line in lines)
    finally:
        end(made.process_id)
