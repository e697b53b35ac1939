"""TOUCHES. One package per outside thing: the PKCS#11 module, the store, the policy engine, the clock."""
