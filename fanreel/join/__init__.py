"""From segments to one film: joined without re-encoding, certified, and verified from disk.

Uses store, segments, mp4 and below.

Public:

    certificate: Certificate, certificate_path, certify, read_certificate, write_certificate
    concat: concat_segments
    identify: FilmIdentity, identify_film, read_identity
    poster: draw_poster
    verify: require_sound
"""
