"""SPEAKS gRPC: identity, conversion, statuses, and the processes that serve. Nothing here decides."""
