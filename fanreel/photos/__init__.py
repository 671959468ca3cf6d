"""Photos as a source of pictures: opened, checked, measured, decoded, brought to sRGB.

Uses plan, sandbox and below.

Public:

    examination: EXAMINER, Examination, check_file_size, examine_photo, open_sandbox
    names: FileKind, HEIF_SUFFIXES, is_photo_name, JPEG_SUFFIXES, kind_of_name, NameOrder, natural_order,
        PHOTO_SUFFIXES,
        RAW_SUFFIXES, split_suffix, why_not_read
    photo: DecodedPhoto, check_size, decode_photo, read_photo, reading
"""
