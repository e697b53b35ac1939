"""A worker process for tests: the stand, its failed handshakes read, what it recorded told on standard output.

Lines out: `port N`, then `recorded <reason> <count> <peer>` per entry about a handshake, `passed` once on standard
error. It ends when its standard input does.
"""

import asyncio
import sys
from pathlib import Path

from cryptosvc.service.supervisor import supervisor_gone
from tests.service_stand import stand


async def main(folder: Path) -> None:
    async with stand(read_handshakes=True) as service:
        wrong_client = service.authority.client("expired", expired=True)
        for name, content in {
            "authority": service.authority.certificate,
            "certificate": service.client.certificate,
            "key": service.client.key,
            "expired-certificate": wrong_client.certificate,
            "expired-key": wrong_client.key,
        }.items():
            (folder / name).write_bytes(content)
        print("passed", file=sys.stderr, flush=True)
        print("port", service.server.port, flush=True)
        await supervisor_gone()
        ledger, total = service.ledger, service.server.handshakes.total
    for entry in ledger.observed("handshake-failed"):
        print("recorded", entry.facts["reason"], entry.facts["count"], entry.withheld.get("peer", "-"))
    for reason, count in total.items():
        print("total", reason, count)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
