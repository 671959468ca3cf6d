"""What one segment is on disk: its file, its record, the fingerprints of its frames.

Uses encode, mp4, plan and below.

Public:

    fingerprints: Fingerprinter, fingerprint_difference, frozen_frames, thumbnail_difference, THUMBNAIL_BYTES
    record: SegmentEvent, SegmentRecord, check_record, packet_digest, record_from_json, record_to_json, unpack
    tracks: film_parameter_sets, presentation_frames, video_track
    writer: SegmentWriter
"""
