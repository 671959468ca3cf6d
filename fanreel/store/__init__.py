"""Where segments are kept, with the plans, photos and manifests that films need beside them: a folder or S3.

Uses segments, remote and below.

Public:

    check: check_store, discard_items
    files: StoredFiles
    inventory: Inventory, Item, Kind, StoredFilm, take_inventory
    local: LocalStore
    manifest: manifest_of
    open: open_store
    prune: prune_store
    seals: file_digest
    segment_store: SegmentStore
    workspace: Fetched, Workspace
"""
