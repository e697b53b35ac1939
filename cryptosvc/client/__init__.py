"""SPEAKS gRPC to the service: a caller's side, blocking and asyncio, and keys that plug into pyca/cryptography.

Example:
    from cryptosvc.client.calls import Client, request
    from cryptosvc.client.channels import Target

    with Client(Target("localhost:8443", authorities, certificate, private_key)) as client:
        answer = client.sign(request("issuing-oca-1", tbs_certificate=tbs))
        answer.artefact, answer.receipt.leaf_index
"""
