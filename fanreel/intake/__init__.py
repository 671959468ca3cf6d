"""From a job to sources on this machine: job files, folders, downloads, photos that hosts share.

Uses store, photos, remote and below.

Public:

    job_file: base_folder, decode_raw_job, read_raw_job
    paths: one_spelling
    photo_sharing: localize_photos, share_photos
    sources: fetch_sources, load_job, output_location
"""
