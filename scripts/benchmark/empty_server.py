"""The yardstick: grpc.aio workers with the same TLS, the same messages and no work, on one port (SO_REUSEPORT).

Usage: empty_server.py PORT WORKERS CA CERTIFICATE PRIVATE_KEY. Prints `ready`, serves until its standard input ends.
"""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import grpc.aio

from cryptosvc.pb.v1 import crypto_pb2

ANSWER = crypto_pb2.SignResponse(
    request_id="x" * 20, signature=bytes(64), artefact=bytes(140), clause="G2.56"
)


async def sign(
    _request: crypto_pb2.SignRequest, _context: grpc.aio.ServicerContext
) -> crypto_pb2.SignResponse:
    """Answer without work."""
    return ANSWER


async def serve(port: str, ca: str, certificate: str, private_key: str) -> None:
    """Serve until standard input ends."""
    handler = grpc.unary_unary_rpc_method_handler(
        sign,
        request_deserializer=crypto_pb2.SignRequest.FromString,
        response_serializer=crypto_pb2.SignResponse.SerializeToString,
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("cryptosvc.v1.CryptoService", {"Sign": handler}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(Path(private_key).read_bytes(), Path(certificate).read_bytes())], Path(ca).read_bytes(), True
    )
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    print("ready", flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True
    ).start()
    await ended.wait()
    await server.stop(0)


def main() -> None:
    """Start the workers, or be one."""
    port, workers, *files = sys.argv[1:]
    if workers == "worker":
        asyncio.run(serve(port, *files))
        return
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, port, "worker", *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(int(workers))
    ]
    for process in processes:
        process.stdout.readline()
    print("ready", flush=True)
    sys.stdin.read()
    for process in processes:
        process.stdin.close()
    for process in processes:
        process.wait(10)


if __name__ == "__main__":
    main()
