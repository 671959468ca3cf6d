"""The scenes that `draw_photos.py` draws, one module for each kind of place."""
