"""Open the store that the operator chose."""

from __future__ import annotations

from fanreel.settings import Settings
from fanreel.store.local import LocalStore
from fanreel.store.segment_store import SegmentStore
from fanreel.store.workspace import Workspace

__all__ = ["open_store"]


def open_store(settings: Settings) -> SegmentStore:
    """Return the store that the operator chose, or a tenant's part of it. Touches nothing.

    Raises:
        RequestError: `FANREEL_STORE` is neither a folder nor a URI in S3.
    """
    workspace = Workspace.of(settings)
    if not settings.remote_store:
        return LocalStore(workspace.root)
    # Imported here: boto3 takes half a second, which a store in a folder need not wait for.
    from fanreel.remote.s3_uri import parse_s3_uri
    from fanreel.store.s3 import S3Store

    uri = parse_s3_uri(settings.remote_store)
    return S3Store(uri / settings.tenant if settings.tenant else uri, workspace=workspace)
