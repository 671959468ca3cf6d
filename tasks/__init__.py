"""Prefect tasks: each is one call of the engine, with a name, retries and a log."""
