"""What is read from elsewhere: S3 and the web; and which locations jobs may use.

Uses settings and errors.

Public:

    locations: check_allowed, scheme_of, shown_location, WEB
    s3: s3
    s3_uri: S3Object, S3Uri, parse_s3_uri
    web_download: WebVersion, download
"""
