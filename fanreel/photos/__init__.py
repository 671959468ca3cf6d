"""Photos as a source of pictures: opened, checked, measured, decoded, brought to sRGB.

Uses plan and below.

Public:

    header: shown_path
    names: is_photo_name, natural_order, PHOTO_SUFFIXES
    photo: DecodedPhoto, decode_photo, read_photo
"""
