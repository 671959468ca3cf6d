"""Sandboxes: a function is called in a process that may die, where C code reads what strangers send.

Uses forks and below.

Public:

    call: Bounds
    sandbox: Answer, Sandbox
"""
