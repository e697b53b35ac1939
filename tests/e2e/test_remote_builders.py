"""pyca's builders against the running service: certificate, revocation lists, requests, each with the remote key."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cryptosvc.client.errors import Conflict, NotPermitted
from cryptosvc.client.keys import RemotePrivateKey
from tests import certificates, precommands
from tests.smki import der, make_smki, now, sign_hierarchy, sign_organisation


def test_a_hierarchy_is_signed_through_pyca(tmp_path):
    deployment = make_smki(tmp_path)
    with (
        deployment.serving(),
        deployment.client("operator") as operator,
        deployment.client("supplier") as supplier,
    ):
        root, issuing = sign_hierarchy(deployment, operator)
        root.verify_directly_issued_by(root)
        issuing.verify_directly_issued_by(root)
        organisation = sign_organisation(deployment, operator, supplier, issuing, "supplier-signing")
        organisation.verify_directly_issued_by(issuing)

        issuing_key = RemotePrivateKey.of(operator, "issuing-oca")
        revoked = [(organisation.serial_number, now(), x509.ReasonFlags.key_compromise)]
        revocations = certificates.crl_builder(
            der(issuing), number=5, this_update=now(), lasting=timedelta(hours=24), revoked=revoked
        ).sign(issuing_key, hashes.SHA256())
        assert revocations.is_signature_valid(issuing.public_key())
        assert revocations.get_revoked_certificate_by_serial_number(organisation.serial_number)
        again = certificates.crl_builder(
            der(issuing), number=5, this_update=now(), lasting=timedelta(hours=25)
        )
        with pytest.raises(Conflict) as refused:
            again.sign(issuing_key, hashes.SHA256())
        assert refused.value.rule == "rising/crl-number"

        # the Issuing OCA's certificate was registered while the workers ran; no configuration names it
        root_key = RemotePrivateKey.of(operator, "root-oca")

        def authority_revocations(serial: int) -> x509.CertificateRevocationList:
            return certificates.crl_builder(
                der(root),
                this_update=now(),
                lasting=timedelta(days=30),
                revoked=[(serial, now(), x509.ReasonFlags.ca_compromise)],
                only_ca=True,
            ).sign(root_key, hashes.SHA256())

        with pytest.raises(NotPermitted) as forbidden:
            authority_revocations(organisation.serial_number)
        assert (forbidden.value.rule, forbidden.value.clause) == ("crl/unknown-oca", "G2.60(c)")
        assert authority_revocations(issuing.serial_number).is_signature_valid(root.public_key())

        supplier_key = RemotePrivateKey.of(supplier, "supplier-signing")
        subject = certificates.organisation_name(2, str(precommands.SUPPLIER))
        asked = certificates.csr_builder(subject).sign(supplier_key, hashes.SHA256())
        assert asked.is_signature_valid
        assert asked.public_key() == supplier_key.public_key()

        # the Root OCA key signs no Organisation certificate, whoever builds it
        wrong = certificates.organisation_builder(
            der(issuing),
            supplier_key.public_key(),
            entity=str(precommands.SUPPLIER),
            start=now() - timedelta(minutes=1),
        )
        with pytest.raises(NotPermitted) as refused:
            wrong.sign(RemotePrivateKey.of(operator, "root-oca"), hashes.SHA256())
        assert refused.value.clause == "G2.60"
        log = deployment.verified_log()
    signed = [
        entry.fields["content_kind"] for entry in log.of_kind("use") if entry.fields["key"] != "log-audit"
    ]
    assert signed == [
        "oca-certificate",
        "oca-certificate",
        "organisation-certificate",
        "organisation-crl",
        "organisation-arl",
        "certification-request",
    ]
