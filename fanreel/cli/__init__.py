"""The command `fanreel`: render, batch, plan, verify, doctor, calibrate, store. No Prefect, no server.

Uses render and below, each imported by the command that needs it.

Public:

    command: main
"""
