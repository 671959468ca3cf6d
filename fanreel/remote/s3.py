"""S3: objects under `s3://bucket/key`, at AWS or whatever speaks its protocol (MinIO, R2, Supabase).

Endpoint, region and credentials come from the environment or the cloud's own chain, as boto3 reads them; nothing
here takes, keeps or says them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from fanreel.errors import StorageAwayError, StorageError, StorageFullError, storage_error
from fanreel.remote.s3_uri import S3Object, S3Uri, parse_s3_uri

__all__ = ["S3", "S3Object", "S3Uri", "parse_s3_uri", "s3"]

MULTIPART_BYTES = 8_000_000
"""Size of the parts in which a larger file is uploaded; each part is tried again by itself."""

TRIES = 3
"""Tries of one request, a second or two apart. More tries are the caller's decision, by `fanreel.policy`."""

QUICK_SECONDS = (3.0, 5.0)
"""Timeout to connect, and to answer a small request: a silent server is given up after about 15 seconds."""

PATIENT_SECONDS = (10.0, 60.0)
"""Timeout to answer an upload: some servers put the parts together before they answer."""

CONNECTIONS = 16

READ_BYTES = 1 << 20

T = TypeVar("T")

_AWAY = (BotoConnectionError, HTTPClientError, IncompleteReadError)
_BUSY = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_REFUSED = "check the credentials, and what they allow, in this process's environment"


class S3:
    """A client of the object store that the environment names. Safe to share among threads and over a fork."""

    def __init__(self) -> None:
        # One client a process: two processes that write to one connection break it.
        self._clients: dict[tuple[int, tuple[float, float]], BaseClient] = {}
        self._locks: dict[int, threading.Lock] = {}

    def head(self, uri: S3Uri) -> S3Object | None:
        """Return what is known of an object, or None if there is none."""
        with _explained(uri):
            answer = _found(lambda: self._client().head_object(Bucket=uri.bucket, Key=uri.key))
        if answer is None:
            return None
        # Metadata travels as headers; servers change their case.
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
        return S3Object(uri, answer["ContentLength"], answer["LastModified"], metadata, answer.get("ETag", ""))

    def read(self, uri: S3Uri) -> bytes | None:
        """Return the bytes of a small object, or None if there is none."""
        pieces = self.pieces(uri)
        return None if pieces is None else b"".join(pieces)

    def pieces(self, uri: S3Uri, *, largest_bytes: int = 0) -> Iterator[bytes] | None:
        """Return the bytes of an object, piece by piece, or None if there is none.

        A connection that breaks is taken up where it broke.
        """
        with _explained(uri):
            answer = _found(lambda: self._client().get_object(Bucket=uri.bucket, Key=uri.key))
        if answer is None:
            return None
        size_bytes = answer["ContentLength"]
        if largest_bytes and size_bytes > largest_bytes:
            answer["Body"].close()
            raise StorageError(f"{uri}: {size_bytes} bytes are too many; {largest_bytes} are allowed")
        return self._follow(uri, answer)

    def download(self, uri: S3Uri, path: Path, *, largest_bytes: int = 0) -> bool:
        """Write an object's bytes to `path`, all of them or no file; return whether there is such an object.

        Args:
            uri: The object.
            path: A file in a folder that exists; one that is there is replaced.
            largest_bytes: Larger ones are refused; 0 for none.

        Raises:
            StorageError: It is too large, cannot be read, or the file cannot be written.
        """
        pieces = self.pieces(uri, largest_bytes=largest_bytes)
        if pieces is None:
            return False
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with part.open("wb") as file:
                file.writelines(pieces)
            part.replace(path)
        except OSError as error:
            raise storage_error(error, doing=f"write {path}") from error
        finally:
            part.unlink(missing_ok=True)
        return True

    def upload(self, path: Path, uri: S3Uri, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        """Upload the file at `path`. Others see the whole object or none; if the upload fails, no part of it is left.

        Raises:
            StorageError: The file cannot be read, or the object cannot be written.
        """
        said = {"ContentType": content_type, "Metadata": dict(metadata or {})}
        config = TransferConfig(
            multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, max_concurrency=4
        )
        try:
            with path.open("rb") as file, _explained(uri):
                self._client(PATIENT_SECONDS).upload_fileobj(file, uri.bucket, uri.key, ExtraArgs=said, Config=config)
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error

    def write(self, data: bytes, uri: S3Uri, *, content_type: str) -> None:
        """Upload `data`. Others see the whole object or none."""
        with _explained(uri):
            self._client().put_object(Bucket=uri.bucket, Key=uri.key, Body=data, ContentType=content_type)

    def delete(self, *uris: S3Uri) -> None:
        """Remove objects; an object that does not exist is no error."""

        def delete_one(uri: S3Uri) -> None:
            with _explained(uri):
                _found(lambda: self._client().delete_object(Bucket=uri.bucket, Key=uri.key))

        # One by one: not every compatible server accepts a list.
        with ThreadPoolExecutor(CONNECTIONS // 2) as pool:
            list(pool.map(delete_one, uris))

    def list(self, folder: S3Uri) -> Iterator[S3Object]:
        """Yield all objects below a folder, by name."""
        prefix = f"{folder.key}/" if folder.key else ""
        with _explained(folder):
            pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=folder.bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    uri, etag = S3Uri(folder.bucket, item["Key"]), item.get("ETag", "")
                    yield S3Object(uri, item["Size"], item["LastModified"], etag=etag)

    def sign(self, uri: S3Uri, *, seconds: int) -> str:
        """Return a presigned URL: whoever has it may read the object for so many seconds."""
        with _explained(uri):
            asked = {"Bucket": uri.bucket, "Key": uri.key}
            return self._client().generate_presigned_url("get_object", Params=asked, ExpiresIn=seconds)

    def now(self, folder: S3Uri) -> datetime:
        """Return the server's own time; `S3Object.modified_at` is in that time."""
        with _explained(folder):
            answer = self._client().list_objects_v2(Bucket=folder.bucket, Prefix=folder.key, MaxKeys=1)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def abort_uploads(self, folder: S3Uri, *, before: datetime) -> int:
        """Abort the uploads below a folder that were begun before a time and never ended; return how many."""
        prefix = f"{folder.key}/" if folder.key else ""
        count = 0
        with _explained(folder):
            for upload in self._uploads(folder.bucket, prefix):
                if upload["Initiated"] < before and upload["Key"].startswith(prefix):
                    names = {"Bucket": folder.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    _found(lambda names=names: self._client().abort_multipart_upload(**names))
                    count += 1
        return count

    def _uploads(self, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
        pages = self._client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        try:
            for page in pages:
                yield from page.get("Uploads", ())
        except ClientError as error:
            # Some servers answer so if there is no such upload, or if they keep no list of uploads.
            if _code(error) not in ("NoSuchUpload", "NotImplemented", "MethodNotAllowed"):
                raise

    def _follow(self, uri: S3Uri, answer: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the bytes of an object; if the connection breaks, go on from the last byte.

        boto3's own transfer is not used for reading. It costs the same (5 and 40 MiB, 3 kB; s3transfer 0.19), but what
        it tries again are whole requests, each with the client's own tries: a server that is mute is given up after 45
        seconds instead of 15. And it has no bound on the size of what it writes.
        """
        size_bytes, etag, done = answer["ContentLength"], answer["ETag"], 0
        with _explained(uri):
            for tries in itertools.count(1):
                try:
                    with contextlib.closing(answer["Body"]) as body:
                        while piece := body.read(READ_BYTES):
                            done += len(piece)
                            yield piece
                except _AWAY:
                    if tries == TRIES:
                        raise
                if done >= size_bytes:
                    return
                rest = {"Range": f"bytes={done}-", "IfMatch": etag}
                answer = self._client().get_object(Bucket=uri.bucket, Key=uri.key, **rest)

    def _client(self, seconds: tuple[float, float] = QUICK_SECONDS) -> BaseClient:
        name = (os.getpid(), seconds)
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if name not in self._clients:
                self._clients[name] = _make_client(*seconds)
            return self._clients[name]


def _make_client(connect_seconds: float, read_seconds: float) -> BaseClient:
    session = Session()

    def make(style: str) -> BaseClient:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS,
            # Servers other than AWS do not know the newer checksums; BLAKE3 digests prove what is read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.client("s3", config=config)

    client = make("auto")
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    # At AWS a bucket is a sub-domain; other servers seldom have that.
    return client if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else make("path")


def _found(ask: Callable[[], T]) -> T | None:
    """Return what `ask` returns, or None if the object it asks about does not exist."""
    try:
        return ask()
    except ClientError as error:
        if _code(error) in ("NoSuchKey", "404", "NotFound", "NoSuchUpload"):
            return None
        raise


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _explained(uri: S3Uri) -> Iterator[None]:
    """Turn boto3's errors into our own. None of their texts is carried over: they may hold secrets."""
    try:
        yield
    except ClientError as error:
        raise _explain(uri, error) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StorageError(f"{uri}: there are no credentials, or half of them; {_REFUSED}") from None
    except _AWAY as error:
        raise StorageAwayError(f"{uri}: the object store does not answer ({type(error).__name__})") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"{uri}: the object store cannot be asked ({type(error).__name__}); {_REFUSED}") from None
    except ValueError:
        raise StorageError(f"{uri}: the address of the object store (AWS_ENDPOINT_URL_S3) is no URL") from None


def _explain(uri: S3Uri, error: ClientError) -> StorageError:
    code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status == 507 or code in _FULL:
        return StorageFullError(f"{uri}: the object store is full ({code})")
    if status >= 500 or status == 429 or code in _BUSY:
        return StorageAwayError(f"{uri}: the object store cannot answer for now ({code or status})")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{uri}: the object store's clock and this machine's differ; set this machine's")
    if code == "NoSuchBucket" or (status == 404 and not code):
        return StorageError(f"{uri}: there is no bucket {uri.bucket}; make it, or name another")
    if code in ("PreconditionFailed", "412", "NoSuchKey", "InvalidRange"):
        return StorageAwayError(f"{uri}: it was written anew or removed while it was read")
    if code in _EXPIRED:
        return StorageError(f"{uri}: the credentials have run out ({code}); get fresh ones and run the same again")
    if code == "400":  # the answer to HEAD has no text that says why
        return StorageError(f"{uri}: the object store refuses (400), as where credentials have run out; {_REFUSED}")
    if status in (401, 403):
        return StorageError(f"{uri}: the object store refuses ({code or status}); {_REFUSED}")
    return StorageError(f"{uri}: the object store answers {code or status}")


_OF_PROCESS = S3()


def s3() -> S3:
    """Return the client of this process."""
    return _OF_PROCESS
