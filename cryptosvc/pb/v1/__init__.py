"""The proto package cryptosvc.v1."""
