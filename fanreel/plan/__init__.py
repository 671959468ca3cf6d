"""What a film shows and how it is cut, decided without a file, process, clock or randomness.

Uses job and the single files. Same input, same plan.

Public:

    camera: CameraPath, Rect, camera_at, place_view
    content: BlurredCopy, ColourContent, Content, Photo, StillContent
    encoding: EncodingPlan, allowed_encoders, encoder_bytes_per_pixel, plan_encoding
    film: FilmPlan, Slide, plan_digest, plan_from_json, plan_to_json
    kinds: FetchedSources, plan_films
    segments: Segment
    shards: Shard, plan_shards, LARGEST_SHARD_COUNT
    slideshow: FetchedStills, Source, Still
    timebase: TimeBase
    timeline: FULL_OPACITY, Clip, Layer, Timeline, layers_at
"""
