"""Fork servers: a process that has imported what its children need, and forks one for each request.

Uses nothing else of fanreel.

Public:

    forked_process: ForkRefusedError, ForkedProcess, bound_silence
    server: ForkRequest, ForkServer, end_quickly
    server_process: ServerProcess
"""
