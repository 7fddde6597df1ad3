"""Files in folders and in object stores, by one small interface: what is read and written where many machines work.

Object stores (``s3://``, ``gs://``, ``az://``) go through obstore, which is in the ``scale`` extra and tries again by
itself after errors, timeouts and bodies that end early. Its messages quote the store's answers, which may hold an
access key: none of their text is passed on, not even as a cause.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from oddsight.errors import ImageError, OddsightError, plain
from oddsight.runtime.files import atomic_write, make_folder

Value = TypeVar("Value")

SCHEMES = ("s3", "gs", "az", "memory")
"""Schemes of object stores."""

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_SIGNED = re.compile(r"[?&](sig|signature|x-amz-[a-z-]+|awsaccesskeyid)=", re.IGNORECASE)
_RETRIES = {"max_retries": 10, "retry_timeout": timedelta(minutes=5), "backoff": {"max_backoff": timedelta(seconds=5)}}
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
_CLIENT = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}


class Store(Protocol):
    """A folder or a prefix of an object store. Names in it have ``/`` between their parts."""

    uri: str  # Without a slash at its end

    def names(self, below: str = "") -> Iterator[tuple[str, int]]:
        """Name and bytes of each file at or below a part of it, in an order that is always the same."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ImageError: There is no such file.
            OddsightError: The store fails.
        """

    def open(self, name: str) -> IO[bytes]:
        """A file, to read parts of it."""

    def size(self, name: str) -> int | None:
        """The bytes of a file; None if there is none of that name."""

    def write(self, name: str, content: bytes | Path, *, new: bool = False) -> bool:
        """Write a file all at once or not at all; False if it must be ``new`` and is not."""


class Folder:
    """A folder of this machine, or one that all machines share."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.uri = str(self.path)

    def names(self, below: str = "") -> Iterator[tuple[str, int]]:
        """See :class:`Store`; folders that links point to are searched once."""
        root = self.path / below
        for path, size in _walk(root, set()) if root.is_dir() else ():
            yield path.relative_to(self.path).as_posix(), size

    def read(self, name: str) -> bytes:
        """See :class:`Store`."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ImageError(str(self.path / name), error.strerror or str(error)) from None

    def open(self, name: str) -> IO[bytes]:
        """See :class:`Store`."""
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise ImageError(str(self.path / name), error.strerror or str(error)) from None

    def size(self, name: str) -> int | None:
        """See :class:`Store`."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def write(self, name: str, content: bytes | Path, *, new: bool = False) -> bool:
        """See :class:`Store`."""
        target = self.path / name
        if new and target.exists():
            return False
        make_folder(target.parent)
        with atomic_write(target, follow_links=False) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as source:
                    while block := source.read(2**20):
                        file.write(block)
        return True


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, int]]:
    """Files below a folder, by the bytes of their names; hidden entries are left out."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise OddsightError(f"cannot list the folder {folder}: {error.strerror or error}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), seen)
        elif entry.is_file():
            yield Path(entry.path), entry.stat().st_size


class Bucket:
    """A prefix of an object store, by obstore.

    Credentials and endpoints come from the environment, as for the clouds' own programs.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._store = _connect(self.uri)

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        """Opened again in another process, with what credentials that has."""
        return type(self), (self.uri,)

    def names(self, below: str = "") -> Iterator[tuple[str, int]]:
        """See :class:`Store`."""
        import obstore

        chunks = iter(obstore.list(self._store, below or None, chunk_size=1000))
        while (chunk := self._ask(lambda: next(chunks, None))) is not None:
            yield from ((one["path"], one["size"]) for one in chunk if not one["path"].endswith("/"))

    def read(self, name: str) -> bytes:
        """See :class:`Store`."""
        import obstore

        return self._ask(lambda: bytes(obstore.get(self._store, name).bytes()), name)

    def open(self, name: str) -> IO[bytes]:
        """See :class:`Store`."""
        import obstore

        reader = self._ask(lambda: obstore.open_reader(self._store, name), name)
        return io.BufferedReader(_Reader(reader, self, name), 2**20)

    def size(self, name: str) -> int | None:
        """See :class:`Store`."""
        import obstore

        try:
            return int(self._ask(lambda: obstore.head(self._store, name)["size"], name))
        except ImageError:
            return None

    def write(self, name: str, content: bytes | Path, *, new: bool = False) -> bool:
        """See :class:`Store`; one conditional put."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def put() -> bool:
            whole = isinstance(content, bytes)
            try:
                obstore.put(
                    self._store, name, content, mode="create" if new else "overwrite",
                    use_multipart=False if whole else None,
                )  # fmt: skip
            except AlreadyExistsError:
                return False
            return True

        return self._ask(put)

    def _ask(self, ask: Callable[[], Value], name: str | None = None) -> Value:
        """What the store answers, or what is wrong with it in words of our own."""
        try:
            return ask()
        except Exception as error:  # obstore raises built-in errors besides its own
            failure = self._failure(error, name)
        raise failure  # outside of the handler: the text of what failed goes nowhere

    def _failure(self, error: Exception, name: str | None) -> OddsightError:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        text = str(error)
        status = re.search(r"status code: (\d{3})", text)
        code = int(status[1]) if status else None
        where = self.uri if name is None else f"{self.uri}/{name}"
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return OddsightError(f"{self.uri}: the bucket does not exist, or exists no longer; name another one")
        if isinstance(error, FileNotFoundError) and name is not None:
            return ImageError(where, "no such object")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in (400, 401, 403):
            return OddsightError(
                f"{self.uri}: the store refuses access; check the credentials in the environment (of every worker)"
            )
        said = f" (status {code})" if code else ""
        return OddsightError(
            f"{where}: the store does not answer as it should after several tries{said}; check its address and the "
            "network, and start again (a job with --resume)"
        )


class _Reader(io.RawIOBase):
    """A file of a bucket that is read in parts, with errors in words of our own."""

    def __init__(self, reader: Any, bucket: Bucket, name: str) -> None:  # noqa: ANN401 - obstore has no public type
        self._reader, self._bucket, self._name = reader, bucket, name

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        content = self._bucket._ask(lambda: bytes(self._reader.read(len(buffer))), self._name)
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _connect(uri: str) -> Any:  # noqa: ANN401 - any store of obstore
    http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1")
    if uri.startswith("s3:"):
        _check_endpoint(http)
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise OddsightError(f"reading and writing {uri} needs obstore: pip install 'oddsight[scale]'") from error
    try:
        if uri.startswith("memory:"):
            return from_url(uri)
        # Options that are given replace those of the environment.
        client = {**_CLIENT, "allow_http": http}
        return from_url(uri, retry_config=_RETRIES, client_options=client)
    except Exception:  # obstore refuses what the environment sets with many kinds of errors
        failure = OddsightError(f"{uri} cannot be opened: check the name and the settings of the store")
    raise failure


def _check_endpoint(http: bool) -> None:
    """Refuse what obstore would fail at later, in other words."""
    for name in _ENDPOINTS:
        endpoint = os.environ.get(name, "https://")
        if not endpoint.startswith(("http://", "https://")):
            raise OddsightError(f"{name} in the environment is no address: let it begin with https:// or http://")
        if endpoint.startswith("http://") and not http:
            raise OddsightError(f"{name} in the environment begins with http://, which AWS_ALLOW_HTTP=true permits")


def is_uri(text: object) -> bool:
    """Whether a text names something in an object store."""
    return isinstance(text, str) and _URI.match(text) is not None


def check_uri(text: str) -> str:
    """A URI of an object store that is supported and holds no credentials.

    Raises:
        OddsightError: It is none. What stands before an ``@`` is not shown.
    """
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES:
        raise OddsightError(f"{plain(scheme)}:// is no object store that is read: use s3://, gs:// or az://")
    bucket = rest.partition("/")[0]
    if "@" in bucket or ":" in bucket or _SIGNED.search(rest):  # no bucket has these in its name
        raise OddsightError(
            f"a {scheme}:// address holds credentials: leave them out, and set them in the environment, as for the "
            "cloud's own programs"
        )
    if not rest.strip("/") and scheme != "memory":
        raise OddsightError(f"{plain(text)} names no bucket: give {scheme}://BUCKET/PREFIX")
    return text


_bucket = lru_cache(maxsize=64)(Bucket)


def open_store(place: str | os.PathLike[str]) -> Store:
    """The store that a folder or a URI names."""
    text = os.fspath(place)
    return _bucket(check_uri(text).rstrip("/")) if is_uri(text) else Folder(text)


def split_name(path: str) -> tuple[str, str]:
    """A store and a name in it: of a URI its bucket and the rest, of a path its folder and its last part."""
    if is_uri(path):
        scheme, _, rest = path.partition("://")
        bucket, _, name = rest.partition("/")
        return f"{scheme}://{bucket}", name
    head, tail = os.path.split(path)
    return head or ".", tail


def read_object(path: str) -> bytes:
    """The content of a file or an object.

    Raises:
        ImageError: It is not there.
        OddsightError: The store fails.
    """
    store, name = split_name(path)
    return open_store(store).read(name)


def object_size(path: str) -> int:
    """The bytes of a file or an object; 0 if it is not there."""
    store, name = split_name(path)
    return open_store(store).size(name) or 0


def open_object(path: str) -> IO[bytes]:
    """A file or an object, to read parts of it; see :func:`read_object`."""
    store, name = split_name(path)
    return open_store(store).open(name)
