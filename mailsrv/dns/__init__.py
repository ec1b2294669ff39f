"""The DNS, on the reactor."""
