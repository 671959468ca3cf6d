"""What lies elsewhere: S3, the web, and which places a job may use at all.

Uses settings and errors.

Public:

    locations: check_allowed, scheme_of, shown_location, WEB
    s3: s3
    s3_uri: S3Object, S3Uri, parse_s3_uri
    web_download: WebVersion, download
"""
