"""Benchmarks: what is demanded of the speed, measured side by side with what it is compared with."""
