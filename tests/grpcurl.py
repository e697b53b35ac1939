"""As much of `grpcurl` as README.md shows: it knows the service by reflection alone, none of its protos.

    python -m tests.grpcurl -cacert ca.pem -cert client.pem -key client.key HOST:PORT list
    python -m tests.grpcurl … HOST:PORT describe SYMBOL
    python -m tests.grpcurl … -d JSON HOST:PORT SERVICE/METHOD

Exit codes are those of grpcurl: 0, 1 for wrong usage, and 64 plus the status code where the call failed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

STATUS_EXIT = 64
_SECONDS = 30.0


class Reflected:
    """A service as it describes itself.

    Args:
        channel: an open channel to it.

    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        """Names of its services."""
        return sorted(self._database.get_services())

    def described(self, symbol: str) -> dict[str, Any]:
        """A service or message as its descriptor says; KeyError where there is none."""
        try:
            found: Any = self.pool.FindServiceByName(symbol)
            proto: Message = descriptor_pb2.ServiceDescriptorProto()
        except KeyError:
            found, proto = self.pool.FindMessageTypeByName(symbol), descriptor_pb2.DescriptorProto()
        found.CopyToProto(proto)
        return json_format.MessageToDict(proto, preserving_proto_field_name=True)

    def request(self, method: str, body: str) -> Message:
        """Make the request message of SERVICE/METHOD out of JSON; KeyError or ParseError where it is not one."""
        made: Message = GetMessageClass(self._method(method).input_type)()
        json_format.Parse(body, made, descriptor_pool=self.pool)
        return made

    def call(self, method: str, body: str) -> dict[str, Any]:
        """Call a unary method with a JSON body; raises grpc.RpcError."""
        answer = GetMessageClass(self._method(method).output_type)
        ask = self._channel.unary_unary(
            f"/{method}", lambda message: message.SerializeToString(), answer.FromString
        )
        return self._readable(ask(self.request(method, body), timeout=_SECONDS))

    def stream(self, method: str, bodies: Sequence[str]) -> list[dict[str, Any]]:
        """Call a method that streams both ways; raises grpc.RpcError."""
        answer = GetMessageClass(self._method(method).output_type)
        ask = self._channel.stream_stream(
            f"/{method}", lambda message: message.SerializeToString(), answer.FromString
        )
        messages = iter([self.request(method, body) for body in bodies])
        return [self._readable(one) for one in ask(messages, timeout=_SECONDS)]

    def status(self, error: grpc.RpcError) -> dict[str, Any]:
        """A failed call as JSON; what the details are, the service is asked as well."""
        assert isinstance(error, grpc.Call)
        found: dict[str, Any] = {"code": error.code().name, "message": error.details()}
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                status = GetMessageClass(self.pool.FindMessageTypeByName("google.rpc.Status"))
                found["details"] = self._readable(status.FromString(value))["details"]
        return found

    def _method(self, method: str) -> Any:
        service, _, name = method.partition("/")
        return self.pool.FindServiceByName(service).methods_by_name[name]

    def _readable(self, message: Message) -> dict[str, Any]:
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self.pool)


@contextmanager
def reflected(target: str, authority: Path, certificate: Path, key: Path) -> Iterator[Reflected]:
    """Connect over mutual TLS."""
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(), key.read_bytes(), certificate.read_bytes()
    )
    with grpc.secure_channel(target, credentials) as channel:
        yield Reflected(channel)


def main(arguments: Sequence[str]) -> int:
    """Be `grpcurl`."""
    parser = argparse.ArgumentParser(prog="grpcurl", exit_on_error=True, allow_abbrev=False)
    for flag in ("cacert", "cert", "key"):
        parser.add_argument(f"-{flag}", type=Path, required=True)
    parser.add_argument("-d", default="{}")
    parser.add_argument("target")
    parser.add_argument("verb")
    parser.add_argument("symbol", nargs="?", default="")
    asked = parser.parse_args(arguments)
    with reflected(asked.target, asked.cacert, asked.cert, asked.key) as service:
        try:
            match asked.verb:
                case "list":
                    print("\n".join(service.services()))
                case "describe":
                    print(json.dumps(service.described(asked.symbol)))
                case method:
                    print(json.dumps(service.call(method, asked.d)))
        except grpc.RpcError as error:
            status = service.status(error)
            print(json.dumps(status), file=sys.stderr)
            return STATUS_EXIT + int(grpc.StatusCode[status["code"]].value[0])
        except (KeyError, json_format.ParseError) as error:
            print(f"grpcurl: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
