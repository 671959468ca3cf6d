"""Where films go: a folder or S3; and the verification of what was published.

Uses join, store, remote and below.

Public:

    open: check_output, open_destination
    previous: PreviousFile, refuse_foreign
    published: verify_published
"""
