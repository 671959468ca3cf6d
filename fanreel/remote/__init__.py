"""What lies elsewhere: S3, the web, and which places a job may use at all.

Uses settings and errors.

Public:

    places: check_place, scheme_of, shown_place, WEB
    s3: s3
    s3_uri: S3Object, S3Place, parse_s3
    web: WebVersion, download
"""
