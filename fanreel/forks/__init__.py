"""Fork servers: a process that has imported what its children need, and forks one for each request.

Uses nothing else of fanreel.

Public:

    forked_process: ForkRefusedError, ForkedProcess, bound_silence
    server: ForkRequest, ForkServer, end_quickly, offer_to_the_memory_killer
    server_process: ServerProcess
"""
