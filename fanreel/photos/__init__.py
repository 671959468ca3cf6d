"""Photos as a source of pictures: opened, checked, measured, decoded, brought to sRGB.

Uses plan and below.

Public:

    header: shown_path
    names: FileKind, HEIF_SUFFIXES, is_photo_name, JPEG_SUFFIXES, kind_of_name, NameOrder, natural_order,
        PHOTO_SUFFIXES,
        RAW_SUFFIXES, split_suffix, why_not_read
    photo: DecodedPhoto, decode_photo, read_photo
"""
