"""Our own MP4 writer and reader: boxes, sample tables, sample entries, bitstreams.

Uses codecs and errors.

Public:

    bitstream: open_bitstream, FORMS
    containers: open_mp4
    layout: Mp4Layout, read_layout
    moov: Track
    sample_entries: mp4a_sample_entry, video_sample_entry
    writer: Chunk, mp4_header, write_mp4
"""
