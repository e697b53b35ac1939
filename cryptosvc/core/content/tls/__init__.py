"""TLS handshakes with SMETS1 Devices: what a `tls` key signs, read as the structure it is (G2.44(d))."""
