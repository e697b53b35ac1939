"""Transfer of Secret Key Material from one system to another, as the SMKI PMA approved it (G2.22F to G2.22I)."""
