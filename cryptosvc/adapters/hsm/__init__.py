"""PKCS#11 modules: the `Hsm` port, the authentication of the log's head, and provisioning.

`hsm` is the port; `assurance` and `pins` what it is given; `pool` and `lane` its threads; `library` and `token` open a
module; `objects` finds keys; `provision` makes and adopts them; `mechanisms` says what a module lacks; `faults` is the
one table of return values; `cryptoki` is the C interface.
"""
