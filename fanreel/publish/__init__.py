"""Where films go: a folder or S3; and the verification of what was published.

Uses join, store, remote and below.

Public:

    destination: Destination, LocalFolder
    published: verify_film, verify_published
    s3_destination: S3Folder
"""
