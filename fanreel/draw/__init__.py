"""What a frame is made with: planes, resampling, and the source that draws any frame of a timeline.

Uses photos, plan and below.

Public:

    frames: FrameSource
"""
