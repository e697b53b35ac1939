"""X.509: certificates, certification requests and revocation lists of the SMKI Organisation hierarchy.

What is read, in the order in which a payload meets it:

    der             every byte, by our own walk: canonical lengths, exact types, nothing left over
    distinguished   subject and issuer forms                 extensions  the few extensions there are
    public_key      P-256 points and key identifiers         tbs         TBSCertificate as a structure
    signed          the signed form; a copy signed with a key that means nothing, for readers of signed things
    referee         pyca/cryptography reads that copy; every field must be what our walk found
    lint            pkilint reads that copy
    certificate, csr, crl   the rules of each form: `parse`, `bind`, `assemble`
    identity        facts of a finished certificate          profile     what stays configuration

Source: RFC 5280; RFC 2986; RFC 5480; ITU-T X.690; Smart Energy Code G2.60, G2.61.
"""
