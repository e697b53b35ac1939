"""One process of all hosts that share a PostgreSQL store signs checkpoints; another takes over when it is gone."""

import asyncio
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from cryptosvc.adapters.store.lead import PostgresLead
from cryptosvc.core.errors import Unavailable
from cryptosvc.wiring.chores import BothLeads, HostLead, every


def sessions(url: str) -> list[int]:
    """Backends that hold an advisory lock."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return [pid for (pid,) in rows]


def test_one_holds_it_until_it_gives_it_back(postgres_server):
    url = postgres_server.make_database()
    first, second, other = (
        PostgresLead(url, "checkpoint"),
        PostgresLead(url, "checkpoint"),
        PostgresLead(url, "another"),
    )
    assert first.take()
    assert not second.take()
    assert other.take()
    assert first.take()
    first.give_back()
    first.give_back()
    assert second.take()
    assert not first.take()
    second.give_back()
    other.give_back()


def test_it_is_lost_with_the_connection(postgres_server):
    url = postgres_server.make_database()
    first, second = PostgresLead(url, "checkpoint"), PostgresLead(url, "checkpoint")
    assert first.take()
    (backend,) = sessions(url)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", (backend,))
    assert second.take()
    assert not first.take()
    second.give_back()
    assert first.take()
    first.give_back()


def test_a_database_out_of_reach_leaves_it_open(tmp_path: Path):
    with pytest.raises(Unavailable):
        PostgresLead(f"postgresql+psycopg://postgres@/none?host={tmp_path}", "checkpoint").take()


async def test_of_two_hosts_with_two_workers_each_one_worker_does_the_chore(postgres_server, tmp_path: Path):
    url = postgres_server.make_database()
    leads, doing, done = {}, {}, []
    for host in ("a", "b"):
        for worker in (1, 2):
            lead = BothLeads(HostLead(tmp_path / f"{host}.lock"), PostgresLead(url, "checkpoint"))
            name = f"{host}{worker}"

            async def chore(name: str = name) -> None:
                done.append(name)

            leads[name] = lead
            doing[name] = asyncio.create_task(every(0.02, "chore", chore, lead))
    try:
        async with asyncio.timeout(30):
            while len(done) < 10:
                await asyncio.sleep(0.01)
            (leader,) = set(done)
            # that worker goes, and one other takes its place
            doing[leader].cancel()
            with suppress(asyncio.CancelledError):
                await doing[leader]
            await asyncio.sleep(0.2)  # its thread may still be asking
            leads[leader].give_back()
            met = len(done)
            while len(done) < met + 10:
                await asyncio.sleep(0.01)
            (successor,) = set(done[met:])
            assert successor != leader
    finally:
        for task in doing.values():
            task.cancel()
        await asyncio.gather(*doing.values(), return_exceptions=True)
        # a cancelled chore leaves its thread asking for the lead, and one that gets it then would keep its connection
        await asyncio.get_running_loop().shutdown_default_executor()
        for lead in leads.values():
            lead.give_back()
