"""The watch over the log: rules, what they find, and the alarms that come of it."""
