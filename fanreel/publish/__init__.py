"""Where films go: a folder or S3; and the verification of what was published.

Uses join, store, remote and below.

Public:

    open: open_destination
    published: verify_published
"""
