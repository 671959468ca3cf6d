"""What a frame is made with: a drawer for each kind of content, blending, resampling; and the frame source.

Uses photos, plan and below.

Public:

    frames: FrameSource
"""
