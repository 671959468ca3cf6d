"""Films published to S3, each with its certificate beside it."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from fanreel.errors import MediaError, StorageAwayError, StorageError, storage_error
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.identify import read_identity
from fanreel.publish.previous import PreviousFile, look_again
from fanreel.remote.locations import check_allowed
from fanreel.remote.s3 import s3
from fanreel.remote.s3_uri import S3Object, S3Uri, parse_s3_uri
from fanreel.settings import Settings
from fanreel.store.seals import file_digest

__all__ = ["S3Folder"]

FILM_TYPE, CERTIFICATE_TYPE = "video/mp4", "application/json"

DIGEST = "blake3"
"""The metadata that holds a film's digest; on a certificate, the digest of the film that it is of."""

MOST_ROUNDS = 5
"""How often other runs may publish under the same name between our film and its certificate."""


class S3Folder:
    """A folder in S3.

    S3 renames nothing, and replaces one object at once but not two. So the certificate is uploaded first, under a name
    that holds the film's digest; then the film; then the certificate under its own name. Then the first one is removed.
    At every moment the film that is there has a certificate, under one of two names that follow from the film.
    Uploading the film first would leave it without a certificate if the run died then. Uploading the certificate under
    its own name first would take it from the film that was there before.

    Args:
        film: The film's URI.
        settings: What may be published where, and how it may be fetched.
    """

    def __init__(self, film: str, settings: Settings) -> None:
        self._url, self._settings = film, settings
        self._film = parse_s3_uri(film)
        folder, _, name = self._film.key.rpartition("/")
        self._folder = S3Uri(self._film.bucket, folder)
        self._certificate = self._folder / certificate_path(Path(name)).name

    def check(self) -> None:
        """Return if the bucket exists and accepts this process's credentials. Writes nothing.

        Raises:
            NotAllowedError: Films may not be published there.
            StorageError: The bucket is missing, or the server refuses or does not answer.
        """
        check_allowed(self._url, settings=self._settings)
        if s3().head(self._film) is None:
            # HEAD answers alike for a missing object and for a missing bucket; a list tells them apart.
            next(s3().list(self._film), None)

    def publish(self, draft: Path) -> str:
        """Upload the film and its certificate, check them, and remove the draft; return the film's URL.

        An object that is there already is not uploaded again.
        """
        check_allowed(self._url, settings=self._settings)
        try:
            digest, size_bytes = file_digest(draft), draft.stat().st_size
            is_there = self._has(digest, size_bytes) and self._is_consistent()
            if not is_there or s3().read(self._certificate) != certificate_path(draft).read_bytes():
                self._upload(draft, digest, size_bytes)
            s3().delete(self._waiting_certificate(digest))
            draft.unlink(missing_ok=True)
            certificate_path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, doing=f"publish {self._film}") from error
        return str(self._film)

    def previous(self) -> PreviousFile | None:
        """Return the object that is there now; see `Destination.previous`. Its digest says which certificate is its."""
        return look_again(self._look)

    def holds(self, plan: str) -> bool:
        """Return whether the certificate of the film that is there names the plan with this digest."""
        with contextlib.suppress(MediaError), tempfile.TemporaryDirectory() as folder:
            path = self.fetch_certificate(Path(folder))
            return path is not None and read_certificate(path).plan == plan
        return False

    def fetch(self, folder: Path) -> Path:
        """Download the film that is there, with its certificate beside it; return where.

        Raises:
            StorageError: There is no film, or it cannot be downloaded.
        """
        path = folder / self._film.key.rpartition("/")[2]
        # The certificate last: if another film takes this one's place meanwhile, verification finds the difference.
        if not s3().download(self._film, path):
            raise StorageError(f"{self._film}: there is no such film")
        self.fetch_certificate(folder)
        return path

    def fetch_certificate(self, folder: Path) -> Path | None:
        """Download the certificate of the film that is there, from either of its two names; None if it has none."""
        film = s3().head(self._film)
        digest = film.metadata.get(DIGEST, "") if film else ""
        path = folder / self._certificate.key.rpartition("/")[2]
        for uri in (self._certificate, self._waiting_certificate(digest)):
            certificate = s3().head(uri) if film else None
            if _is_of(certificate, film) and s3().download(uri, path):
                return path
        return None

    def link(self) -> str:
        """Return an address at which browsers find the film; empty if the operator wants none."""
        if self._settings.public_url:
            base = self._settings.public_url.replace("{bucket}", self._film.bucket)
            return f"{base}/{quote(self._film.key)}"
        if self._settings.link_seconds:
            return s3().sign(self._film, seconds=self._settings.link_seconds)
        return ""

    def _look(self) -> PreviousFile | None:
        film = s3().head(self._film)
        if film is None or not film.size_bytes:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = self.fetch_certificate(Path(folder))
            identity = read_identity(path.read_bytes()) if path else None
        return PreviousFile(film.size_bytes, film.modified_at.timestamp(), is_ours=path is not None, identity=identity)

    def _waiting_certificate(self, digest: str) -> S3Uri:
        return self._folder / f".{self._film.key.rpartition('/')[2]}.{digest[:16]}.certificate.json"

    def _upload(self, draft: Path, digest: str, size_bytes: int) -> None:
        certificate, said = certificate_path(draft), {DIGEST: digest}
        s3().upload(certificate, self._waiting_certificate(digest), content_type=CERTIFICATE_TYPE, metadata=said)
        for round_number in range(MOST_ROUNDS):
            if not self._has(digest, size_bytes):
                s3().upload(draft, self._film, content_type=FILM_TYPE, metadata=said)
                self._check_upload(digest, size_bytes)
            s3().upload(certificate, self._certificate, content_type=CERTIFICATE_TYPE, metadata=said)
            if self._is_consistent():
                return
            # Another run publishes too: its film is there with our certificate until it uploads its own.
            time.sleep(random.uniform(0.2, 1) * 2**round_number)
            if self._is_consistent():
                return
        raise StorageAwayError(f"{self._film}: other runs keep publishing under this name; publish once more")

    def _has(self, digest: str, size_bytes: int) -> bool:
        film = s3().head(self._film)
        return film is not None and (film.metadata.get(DIGEST), film.size_bytes) == (digest, size_bytes)

    def _is_consistent(self) -> bool:
        return _is_of(s3().head(self._certificate), s3().head(self._film))

    def _check_upload(self, digest: str, size_bytes: int) -> None:
        """Raise `StorageError` if the server's length or metadata of the film differ from what was sent."""
        film = s3().head(self._film)
        if film is not None and film.metadata.get(DIGEST, digest) != digest:
            return  # it is another run's film by now; the certificates are compared next
        if film is None or DIGEST not in film.metadata or film.size_bytes != size_bytes:
            what = f"{film.size_bytes} bytes, metadata {sorted(film.metadata)}" if film else "nothing"
            raise StorageError(
                f"{self._film}: {size_bytes} bytes with their {DIGEST} were sent, and the server has {what}"
            )


def _is_of(certificate: S3Object | None, film: S3Object | None) -> bool:
    """Return whether a certificate is that of a film, by the digest in the metadata of both."""
    if certificate is None or film is None or DIGEST not in film.metadata:
        return False
    return certificate.metadata.get(DIGEST) == film.metadata[DIGEST]
