"""Transport: routed addresses are handed over, here or to other hosts (stage 6)."""
