"""Prefect flows: what a person starts."""
