"""The only floor that knows every other: it makes the objects, hands them to each other, and starts processes."""
