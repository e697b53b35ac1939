"""SPEAKS to people. Parses arguments, calls an action, prints the answer; `wiring` supplies the actions."""
