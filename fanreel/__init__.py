"""Turn media jobs into finished films by rendering segments in parallel on every encoder there is."""
