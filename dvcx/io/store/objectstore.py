"""A backend in an object store: s3://, gs:// and az:// through obstore. Owns how its failures are told in words.

Nothing of obstore or botocore leaves this file: what they raise becomes `RemoteFailed`, built from codes and never from the
text of an answer, because answers repeat keys and signed addresses.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from dvcx.errors import DvcxError, NotFound, RemoteFailed, UsageError, display
from dvcx.io import pool
from dvcx.io.store.backend import (
    CHUNK,
    STALE,
    Listed,
    Mark,
    capped,
    changed,
    check_below,
    check_name,
    check_prefix,
    check_range,
    heard,
    ignore_bytes,
    modify_command,
    reading,
    short,
    timeout_of,
    too_large,
)
from dvcx.io.store.signed import Part, SignedParts

T = TypeVar("T")
PART = 16 << 20  # S3 takes at most 10,000 parts, so files above 9,000 of these have larger ones
MOST_PARTS = 9000
LANES = 4  # parts of one file under way at once
CONNECT_TIMEOUT = 10.0
PART_RETRIES = 2  # of one part: else one that fails would send all of the others again
FIRST_CONTACT = 5.0  # seconds in which a host that was never reached may still turn up
STREAMED = 1 << 20
STREAMED_AGAIN = 64 << 10  # a line that breaks often brings at least so much each time

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PERMISSION = {
    "s3": {
        "listing": "s3:ListBucket",
        "reading": "s3:GetObject",
        "writing": "s3:PutObject",
        "deleting": "s3:DeleteObject",
        "listing uploads": "s3:ListBucketMultipartUploads",
        "aborting an upload": "s3:AbortMultipartUpload",
    },
    "gs": {
        "listing": "storage.objects.list",
        "reading": "storage.objects.get",
        "writing": "storage.objects.create and storage.objects.delete",
        "deleting": "storage.objects.delete",
    },
    "az": {
        "listing": "Storage Blob Data Reader",
        "reading": "Storage Blob Data Reader",
        "writing": "Storage Blob Data Contributor",
        "deleting": "Storage Blob Data Contributor",
    },
}
_LOGIN = {
    "s3": "aws sso login (or: aws configure; or set access_key_id and secret_access_key in .dvcx/config.local.toml)",
    "gs": "gcloud auth application-default login",
    "az": "az login (or set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
}


class ObjectBackend:
    """The objects below a prefix of a bucket. The contract is `Backend`'s.

    Options: `timeout`; for s3 and az `endpoint`, `access_key_id` and `secret_access_key` (az: the account and its key); for s3
    `region`, `profile` and `session_token`. What is not given is looked up where the service's own tools look.
    A request that makes no progress fails after `timeout` seconds, a connection that cannot be made after 10 s. Each is made
    once: trying again is the business of `retry.py`.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._scheme, self._bucket, self._prefix = parts.scheme, parts.netloc, parts.path.strip("/")
        self.url = f"{self._scheme}://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")
        self._timeout = timeout_of(options)
        self._window = _Window(self._timeout)
        self._bucket_seen = False
        self._partial = True
        self._signed: SignedParts | None = None
        self._options = dict(options)
        self._modify = modify_command(options)
        self._endpoint = ""
        self._for_parts: Any = None
        self._way_in: tuple[dict[str, Any], Callable[[], Any] | None] = ({}, None)
        self._uploading: set[str] = set()
        if not self._bucket:
            raise UsageError(f"{display(url)} names no bucket", f"{self._modify} url {self._scheme}://BUCKET/PREFIX")
        with self._in_words("opening", ""):
            self._store = self._open(dict(options), retries=0)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Backend.list`."""
        prefix = check_prefix(prefix, self.url)
        with self._in_words("listing", prefix):
            batches = iter(_call(lambda: self._store.list(prefix or None, chunk_size=1000)))
        empty = True
        while True:
            with self._in_words("listing", prefix):
                batch = _call(lambda: next(batches, None))
            if batch is None:
                break
            empty = False
            for found in batch:
                yield Listed(found["path"], found["size"], found["last_modified"].timestamp())
        if empty:
            self._check_service()
        self._bucket_seen = True

    def size(self, name: str) -> int | None:
        """See `Backend.size`."""
        found = self._head(name)
        return None if found is None else int(found["size"])

    def version(self, name: str) -> str:
        """What the service calls this version of the object, and its size; "" when it is absent."""
        found = self._head(name)
        if found is None:
            return ""
        told = f"etag {found['e_tag']}" if found.get("e_tag") else f"modified {found['last_modified'].timestamp():.6f}"
        return display(f"{told} {found['size']}")

    def _head(self, name: str) -> Any:
        check_name(name, self.url)
        with self._in_words("reading", name):
            try:
                found = _call(lambda: self._store.head(name))
            except FileNotFoundError:
                found = None
        if found is None:
            self._check_bucket()  # the answer to a HEAD does not tell a missing object from a missing bucket
        else:
            self._bucket_seen = True
        return found

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`."""
        check_name(name, self.url)
        check_range(start, length)
        if length == 0:
            return b""
        with self._in_words("reading", name):
            data = self._part(name, start, length) if length > 0 else None
        if data is not None:
            if length != len(data):
                raise short(f"{self.url}/{name}", length, len(data))
            return data
        return b"".join(self._chunks(name, None, Mark(start, -1 if length < 0 else start + length)))

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """See `Backend.stream`."""
        check_name(name, self.url)
        mark = mark or Mark()
        yield from capped(self._chunks(name, limit, mark), limit, f"{self.url}/{name}", mark)

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`."""
        check_name(name, self.url)
        with self._in_words("writing", name):
            _call(lambda: self._put(name, data, len(data)))

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`. Above 16 MiB in parts; obstore drops the parts when anything is raised in between."""
        check_name(name, self.url)
        over = threading.Event()

        def heard(count: int) -> None:
            if over.is_set():
                raise pool.GivenUp
            emit_bytes(count)

        try:
            _call(lambda: self._upload(name, path, heard))
        except BaseException:
            over.set()  # after Ctrl-C it may still be running
            raise

    def _upload(self, name: str, path: str, emit_bytes: Callable[[int], None]) -> None:
        raised: list[BaseException] = []
        with reading(path) as source:
            chunks = heard(source.chunks(), emit_bytes, raised)
            try:
                with self._in_words("writing", name):
                    self._put(name, b"".join(chunks) if source.size <= PART else chunks, source.size)
            except RemoteFailed:
                if raised:  # not the service failed but the listener
                    raise raised[0] from None
                raise

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        check_name(name, self.url)
        with self._in_words("deleting", name):
            try:
                _call(lambda: self._store.delete(name))
            except FileNotFoundError as error:
                if _code(str(error)) in _NO_BUCKET:
                    raise

    def clear(self, prefix: str) -> None:
        """See `Backend.clear`."""
        for item in list(self.list(check_below(prefix, self.url))):
            self.delete(item.name)
        for name in list(self._uploading):
            if name.startswith(prefix.rstrip("/") + "/"):
                self._abort_uploads(name, -5.0)

    def keeps_first(self, name: str) -> bool:
        """Whether the service refuses to overwrite `name` when asked to (If-None-Match). dvcx relies on it nowhere."""
        from obstore.exceptions import AlreadyExistsError

        check_name(name, self.url)
        with self._in_words("writing", name):
            try:
                _call(lambda: self._store.put(name, b"second", mode="create", use_multipart=False))
            except AlreadyExistsError:
                return True
            except NotImplementedError:
                return False
        return False

    def move(self, name: str, target: str) -> None:
        """See `Backend.move`. The service copies; the bytes do not come here."""
        check_name(name, self.url)
        check_name(target, self.url)
        size = self.size(name)
        if size is None:
            raise NotFound(f"{self.url}/{display(name)} does not exist", "check what the store holds")
        with self._in_words("copying", name):
            self._store.copy(name, target, overwrite=True)
        if self.size(target) != size:
            raise RemoteFailed(f"{self.url}/{display(target)}: the copy has another length", "run the command again")
        self.delete(name)

    def reap(self, older: float = STALE) -> int:
        """See `Backend.reap`. On S3: multipart uploads; Google and Azure forget them by themselves or by a rule of the bucket."""
        return self._abort_uploads("", older)

    def close(self) -> None:
        """See `Backend.close`. What a thread that nobody waits for is still uploading is aborted."""
        with contextlib.suppress(DvcxError):  # the first failure ends it: nobody wants to wait for a network that is gone
            for name in list(self._uploading):
                self._abort_uploads(name, -5.0, patience=5.0)
        self._store = self._for_parts = None
        if self._signed is not None:
            self._signed.close()

    # opening

    def _open(self, options: dict[str, str], *, retries: int) -> Any:
        import datetime

        from obstore.store import AzureStore, GCSStore, S3Store

        endpoint = options.get("endpoint", "")
        provider = None
        if self._scheme == "s3":
            config, provider, endpoint = self._s3_config(options)
            self._way_in = (config, provider)
        elif self._scheme == "az":
            account, key = options.get("access_key_id"), options.get("secret_access_key")
            config = _some(endpoint=endpoint, account_name=account, account_key=key)
        else:
            config = _some(base_url=endpoint)
        client: dict[str, Any] = {
            "allow_http": self._allows_http(endpoint, explicitly=bool(options.get("endpoint"))),
            "connect_timeout": datetime.timedelta(seconds=min(CONNECT_TIMEOUT, self._timeout)),
            "read_timeout": datetime.timedelta(seconds=self._timeout),
            "timeout": datetime.timedelta(days=1),  # of a whole transfer: a slow one that moves is no failure
        }
        if self._scheme == "s3":
            client.update(_only_to(endpoint))
        self._endpoint = endpoint  # it holds no credentials: that was looked at just now
        retry = {"max_retries": retries, "retry_timeout": datetime.timedelta(seconds=self._timeout / 2)}
        arguments: dict[str, Any] = {"prefix": self._prefix or None, "client_options": client, "retry_config": retry}
        if self._scheme == "az":
            return AzureStore(self._bucket, config=config, **arguments)
        if self._scheme == "gs":
            return GCSStore(self._bucket, config=config, **arguments)
        return S3Store(self._bucket, config=config, **_some(credential_provider=provider), **arguments)

    def _s3_config(self, options: dict[str, str]) -> tuple[dict[str, Any], Callable[[], Any] | None, str]:
        """obstore's configuration, where credentials come from (None: they are in the configuration), and the endpoint."""
        key, secret = options.get("access_key_id"), options.get("secret_access_key")
        if bool(key) != bool(secret):
            raise UsageError(
                f"{self.url}: access_key_id and secret_access_key go together, only one is set",
                "set both in .dvcx/config.local.toml, or neither",
            )
        endpoint, region = options.get("endpoint", ""), options.get("region", "")
        provider = None
        if not (key and endpoint):
            session = self._session(options.get("profile"))
            endpoint = endpoint or _configured_endpoint(session)
            region = region or session.get_config_variable("region") or ""
            if not key:
                provider = self._provider(session)
        config = _some(
            endpoint=endpoint,
            region=region or "us-east-1",
            access_key_id=key,
            secret_access_key=secret,
            session_token=options.get("session_token") if key else None,
        )
        return {**config, "disable_bulk_delete": True}, provider, endpoint

    def _session(self, profile: str | None) -> Any:
        from botocore.exceptions import BotoCoreError, ProfileNotFound
        from botocore.session import Session

        try:
            session = Session(profile=profile or None)
            session.get_scoped_config()
        except ProfileNotFound:
            raise UsageError(
                f"{self.url}: the AWS profile '{display(profile or 'named by AWS_PROFILE')}' is not in ~/.aws",
                f"aws configure list-profiles shows the ones there are; {self._modify} profile PROFILE --local",
            ) from None
        except BotoCoreError as error:
            raise UsageError(f"{self.url}: the files in ~/.aws cannot be read ({type(error).__name__})", "repair them") from None
        return session

    def _provider(self, session: Any) -> Callable[[], dict[str, Any]]:
        """What obstore calls for credentials, every half hour: botocore's chain, which knows profiles, SSO, roles, instances."""
        import datetime

        from botocore.exceptions import BotoCoreError

        def provide() -> dict[str, Any]:
            try:
                frozen = found.get_frozen_credentials()
            except (BotoCoreError, OSError) as error:  # its text may quote what it was given
                raise RuntimeError(f"credentials:{type(error).__name__}") from None
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=30)
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": until,
            }

        try:
            found = session.get_credentials()
        except (BotoCoreError, OSError) as error:
            raise self._no_credentials(type(error).__name__) from None
        if found is None:
            raise self._no_credentials("")
        return provide

    def _allows_http(self, endpoint: str, *, explicitly: bool) -> bool:
        if not endpoint:
            return False
        try:
            parts = urlsplit(endpoint)
            host, secret = parts.hostname, parts.username or parts.password or parts.query
        except ValueError:
            host, secret = None, None
        if secret:
            raise UsageError(
                f"{self.url}: the endpoint holds credentials",
                "put access_key_id and secret_access_key into .dvcx/config.local.toml",
            )
        if not host or parts.scheme not in ("http", "https"):
            raise UsageError(
                f"{self.url}: the endpoint must be an address such as https://s3.example.com",
                f"{self._modify} endpoint https://HOST --local",
            )
        if parts.scheme == "http" and not explicitly and host not in _LOOPBACK:
            raise UsageError(
                f"{self.url}: the endpoint {display(endpoint)} from the environment or ~/.aws is not encrypted",
                f"use https, or accept it: {self._modify} endpoint {display(endpoint)} --local",
            )
        return parts.scheme == "http"

    # reading

    def _chunks(self, name: str, limit: int | None, mark: Mark) -> Iterator[bytes]:
        """The bytes that `mark`, which stays as it is, asks for; only of the version it names."""
        where = f"{self.url}/{name}"
        position = mark.position
        if mark.size >= 0 and mark.until <= position:
            return
        first = self._first_part(name, mark) if position or mark.end >= 0 else None
        if first is not None:
            yield from self._signed_chunks(name, first, limit, mark)
            return
        with self._in_words("reading", name):
            again = bool(mark.version)
            answer, at = self._get(name, mark)
            if answer is None:
                size = self._nothing_there(name, mark)
                mark.met(size, mark.version, where)
                return
            mark.met(answer.meta["size"], answer.meta["e_tag"] or "", where)
            if limit is not None and mark.size > limit:
                raise too_large(where, limit)
            pieces = iter(answer.stream(STREAMED_AGAIN if again else STREAMED))
        while position < mark.until:
            with self._in_words("reading", name):
                piece = _call(lambda: next(pieces, None))
            if piece is None:
                raise short(where, mark.until, position, transient=True)
            skipped = max(0, min(len(piece), position - at))
            at += len(piece)
            if wanted := memoryview(piece)[skipped : len(piece) - max(0, at - mark.until)]:
                position += len(wanted)
                yield bytes(wanted)
        self._bucket_seen = True

    def _first_part(self, name: str, mark: Mark) -> Part | None:
        """From a server that sends parts with status 200, the first of what `mark` asks for; None from any other."""
        if self._partial or self._signed is None or not self._signed.works:
            return None
        return self._signed.read(name, mark.position, max(1, min(CHUNK, mark.end - mark.position)) if mark.end >= 0 else CHUNK)

    def _signed_chunks(self, name: str, part: Part, limit: int | None, mark: Mark) -> Iterator[bytes]:
        assert self._signed is not None
        where = f"{self.url}/{name}"
        position = mark.position
        while True:
            mark.met(part.size, part.version, where)
            if limit is not None and mark.size > limit:
                raise too_large(where, limit)
            position += len(part.data)
            yield part.data
            left = mark.until - position
            if left <= 0:
                return
            more = self._signed.read(name, position, min(CHUNK, left))
            if more is None:
                raise short(where, mark.until, position, transient=True)
            part = more

    def _get(self, name: str, mark: Mark) -> tuple[Any, int]:
        """An answer with the bytes `mark` asks for, and the position its bytes begin at; None when it lies behind the end."""
        from obstore.exceptions import PreconditionError

        same = _some(if_match=mark.version)
        if self._partial and (mark.position or mark.end >= 0):
            span = (mark.position, mark.end) if mark.end >= 0 else {"offset": mark.position}
            try:
                return _call(lambda: self._store.get(name, options={"range": span, **same})), mark.position
            except PreconditionError:
                raise changed(f"{self.url}/{name}") from None
            except Exception as error:
                text = str(error)
                if _status(text) == 416:
                    return None, mark.position
                if "non-partial response" not in text:
                    raise
                self._partial = False
        try:
            return _call(lambda: self._store.get(name, options=same or None)), 0
        except PreconditionError:
            raise changed(f"{self.url}/{name}") from None

    @property
    def ranges(self) -> bool:
        """Whether a part of an object costs no more than that part, as far as it is known."""
        return self._partial or (self._signed is not None and self._signed.works)

    def _part(self, name: str, start: int, length: int) -> bytes | None:
        """The range, shorter at the end of the object; None when it is to be had only as a stream."""
        if self._partial and length <= STREAMED:
            data = self._read_range(name, start, length)
            if data is not None:
                return data
        if self._partial or self._scheme != "s3":
            return None
        if self._signed is None:
            self._signed = SignedParts(self._sign, self._timeout)
        part = self._signed.read(name, start, length)
        return None if part is None else part.data

    def _sign(self, name: str) -> str:
        import datetime

        import obstore

        address = obstore.sign(self._store, "GET", name, datetime.timedelta(hours=1))
        return str(address)

    def _read_range(self, name: str, start: int, length: int) -> bytes | None:
        """The range, shorter at the end of the object; None when this server does not do ranges right."""
        try:
            return _call(lambda: bytes(self._store.get_range(name, start=start, length=length)))
        except FileNotFoundError:
            raise
        except Exception as error:
            text = str(error)
            if "non-partial response" in text:
                self._partial = False  # `rclone serve s3` sends the range with status 200
                return None
            if _status(text) == 416:
                return None
            raise

    def _nothing_there(self, name: str, mark: Mark) -> int:
        """The size of an object that has no byte at the mark."""
        size = self.size(name)
        if size is None or size != mark.position or mark.end > size:
            raise short(f"{self.url}/{name}", max(mark.position, mark.end), size or 0)
        return size

    # writing

    def _put(self, name: str, content: Any, size: int) -> None:
        part = part_size(size)
        if size <= part:
            with self._window.of(size):
                self._store.put(name, content, use_multipart=False)
            return
        if self._store is None:
            raise pool.GivenUp  # closed meanwhile: nobody waits for this any more
        if self._for_parts is None:
            self._for_parts = self._open(self._options, retries=PART_RETRIES)
        with self._window.of(part, LANES, parts=-(-size // part)) as lanes, self._under_way(name):
            self._for_parts.put(name, content, use_multipart=True, chunk_size=part, max_concurrency=lanes)

    @contextlib.contextmanager
    def _under_way(self, name: str) -> Iterator[None]:
        self._uploading.add(name)
        try:
            yield
        finally:
            self._uploading.discard(name)

    def _abort_uploads(self, name: str, older: float, *, patience: float = 0.0) -> int:
        """Abort multipart uploads; "" means all of this store. `RemoteFailed` when the service does not let us see them."""
        if self._scheme != "s3":
            return 0
        from dvcx.io.store.multipart import Place, Refused, abort_uploads

        config, provider = self._way_in
        with self._in_words("listing uploads", name):
            found = provider() if provider else {}
        settings = {**config, **_some(**found)}
        if "token" in settings:
            settings["session_token"] = settings["token"]
        prefix = f"{self._prefix}/" if self._prefix else ""
        try:
            return abort_uploads(Place(self._bucket, prefix, settings, patience or self._timeout), name, older)
        except Refused as refused:
            told = self._explain("", refused.code, refused.status, refused.doing)
            where = display(f"{self.url}/{name}" if name else self.url)
            words = told.words if refused.status else f"the connection failed {refused.code}".rstrip()
            message = f"{where}: {words} (while {refused.doing} in bucket '{display(self._bucket)}')"
            raise RemoteFailed(message, told.hint, permission=told.permission) from None

    # failures

    @contextlib.contextmanager
    def _in_words(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except DvcxError:
            raise
        except Exception as error:
            raise self._failure(error, doing, name) from None

    def _failure(self, error: Exception, doing: str, name: str) -> DvcxError:
        """`error`, met while `doing` something to `name`, as one of ours. Only codes of its text are used."""
        text = str(error)
        where = display(f"{self.url}/{name}" if name else self.url)
        code, status = _code(text), _status(text)
        if isinstance(error, ImportError):
            return UsageError(f"{where} needs packages that are not installed", f'pip install "dvcx[{self._scheme}]"')
        if isinstance(error, FileNotFoundError) and doing == "reading" and code not in _NO_BUCKET:
            self._check_bucket()
            return NotFound(f"{where} does not exist", "check what the store holds")
        if "credential provider" in text or "credentials:" in text:
            named = re.search(r"credentials:(\w+)", text)
            return self._no_credentials(named[1] if named else "")
        told = self._explain(text, code, status, doing)
        message = f"{where}: {told.words} (while {doing} in bucket '{display(self._bucket)}')"
        return RemoteFailed(message, told.hint, transient=told.transient, within=told.within, permission=told.permission)

    def _explain(self, text: str, code: str, status: int, doing: str) -> _Words:
        for codes, words, hint, transient in _CODES:
            if code in codes:
                hint = hint.format(login=_LOGIN[self._scheme], modify=self._modify)
                return _Words(words.format(bucket=self._bucket), hint, transient)
        if status in (401, 403):
            permission = _PERMISSION[self._scheme].get(doing, "access")
            return _Words(
                f"access denied, {status} {code}".rstrip(),
                f"grant {permission} on '{self._bucket}', or use other credentials",
                permission=permission,
            )
        if status == 404 and doing in ("listing", "writing", "deleting"):
            return _Words("the bucket does not exist", f"create it, or correct the address: {self._modify} url URL")
        if status in (301, 302, 303, 307, 308) or "without LOCATION" in text:
            return _Words(
                f"answered with a redirect ({status or 301}), which is not followed; the region is probably wrong",
                f"{self._modify} region REGION",
            )
        if status in (429, 503):
            words = f"the service asks to slow down ({status} {code})".replace(" )", ")")
            return _Words(words, "use fewer --jobs, or run it again later", True)
        if status == 507:
            return _Words("the store is full (507)", "free some space there, then run it again")
        if status:
            # 408 and 425 ask to come again; 501 and 505 will not change.
            transient = status in (408, 425) or (status >= 500 and status not in (501, 505))
            hint = "run it again; if it persists, look at the service"
            return _Words(f"the service answered {status} {code}".rstrip(), hint, transient)
        return self._explain_transport(text)

    def _explain_transport(self, text: str) -> _Words:
        broke = ("body error" in text or "error sending request" in text) and "Parse(" not in text
        text = text.partition("inner:")[2] or text
        if "127.0.0.1:0," in text:
            return _Words("answered with a redirect to another host, which is not followed", "check the endpoint")
        if "TimedOut" in text or "kind: Timeout" in text:
            return _Words(
                f"no progress for {self._timeout:g} seconds, or no connection within {min(CONNECT_TIMEOUT, self._timeout):g}",
                f"check the network; on a slow line: {self._modify} timeout 300 --local",
                True,
            )
        # Who never answered is rather a wrong address than a service that is away for a moment.
        within = 0.0 if self._bucket_seen else FIRST_CONTACT
        if "dns error" in text:
            return _Words(f"the host's name cannot be resolved ({self._asked})", self._way, True, within)
        if "BadScheme" in text:
            return _Words("the connection would not be encrypted, which is refused", "use an https endpoint")
        connecting = "kind: Connect," in text  # not ConnectionReset
        if connecting and re.search(r"ertificate|InvalidMessage|UnknownIssuer|tls", text):
            return _Words(
                "no secure connection (TLS) could be made", "check the endpoint's certificate, and that it speaks https"
            )
        if connecting:
            return _Words(f"the endpoint cannot be reached ({self._asked})", self._way, True, within)
        if broke:
            return _Words("the connection broke", "check the network, then run it again", True)
        return _Words("the service's answer makes no sense", "check that the endpoint is such a service; run it again")

    @property
    def _asked(self) -> str:
        """Who was asked, in words."""
        if self._endpoint:
            return display(urlsplit(self._endpoint).netloc)
        return "no endpoint is set, so AWS was asked" if self._scheme == "s3" else "no endpoint is set"

    @property
    def _way(self) -> str:
        """What to do when nobody is there."""
        if self._endpoint or self._scheme != "s3":
            return "check the endpoint and the network, then run it again"
        return f"for another server: {self._modify} endpoint URL --local; else check the region and the network"

    def _no_credentials(self, why: str) -> RemoteFailed:
        return RemoteFailed(
            f"{self.url}: no credentials for bucket '{display(self._bucket)}' were found{f' ({why})' if why else ''}; "
            f"reading needs {_PERMISSION[self._scheme]['reading']}, pushing {_PERMISSION[self._scheme]['writing']}",
            _LOGIN[self._scheme],
        )

    def _check_service(self) -> None:
        """`RemoteFailed` unless the service knows what is absent: obstore takes any HTML for an empty listing."""
        if self._bucket_seen:
            return
        with self._in_words("listing", ""):
            try:
                _call(lambda: self._store.head(f"absent-{time.time_ns():x}"))
            except FileNotFoundError:
                return
        raise RemoteFailed(
            f"{display(self.url)}: what answers is no object store (while listing in bucket '{display(self._bucket)}')",
            "check the endpoint, and whether the network asks for a login",
        )

    def _check_bucket(self) -> None:
        """`RemoteFailed` when the bucket is missing. Asked at most once: after that an absent object is just absent."""
        if not self._bucket_seen:
            next(iter(self.list("")), None)
            self._bucket_seen = True


def _call(work: Callable[[], T]) -> T:
    """`work()`. Not in the main thread, for obstore does not notice Ctrl-C while it waits for an answer."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    answer: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="dvcx-obstore", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure.pop()
    return answer.pop()


def part_size(size: int) -> int:
    """Bytes of one part of an upload of `size` bytes: 16 MiB, more when that would make too many parts."""
    return max(PART, -(-size // MOST_PARTS))


class _Window:
    """How many bytes may be on their way up at once, over all threads.

    A request's clock runs from its start to its answer, so with many at once on a slow line each would take longer than the
    timeout. The window opens while requests are quick and closes when they come near the timeout.
    """

    def __init__(self, timeout: float) -> None:
        self._slow = timeout / 4
        self._limit = 2 * PART
        self._flying = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, size: int, at_most: int = 1, parts: int = 1) -> Iterator[int]:
        """Room for up to `at_most` requests of `size` bytes each; how many there is room for, at least one."""
        with self._changed:
            while self._flying and self._flying + size > self._limit:
                self._changed.wait(0.5)
            lanes = max(1, min(at_most, (self._limit - self._flying) // max(size, 1)))
            self._flying += lanes * size
        began = time.monotonic()
        try:
            yield lanes
        finally:
            seconds = (time.monotonic() - began) * lanes / max(parts, lanes)
            with self._changed:
                self._flying -= lanes * size
                if seconds > self._slow:
                    self._limit = max(PART, self._limit // 2)
                elif size * lanes >= PART // 4:
                    self._limit = min(32 * PART, self._limit + size * lanes)
                self._changed.notify_all()


class _Words(NamedTuple):
    """A failure told: what happened, what helps, whether (and in how many seconds) it may pass, which permission is lacking."""

    words: str
    hint: str
    transient: bool = False
    within: float = 0.0
    permission: str = ""


_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted")
_CODES: tuple[tuple[tuple[str, ...], str, str, bool], ...] = (
    (
        _NO_BUCKET,
        "the bucket '{bucket}' does not exist",
        "create it, or correct the address: {modify} url URL",
        False,
    ),
    (("SignatureDoesNotMatch", "AuthenticationFailed"), "the secret key is wrong", "{login}", False),
    (("InvalidAccessKeyId",), "the access key is not known there", "{login}", False),
    (("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), "the credentials have expired", "{login}", False),
    (
        ("RequestTimeTooSkewed", "RequestExpired"),
        "this machine's clock differs too much from the service's",
        "set the clock: timedatectl set-ntp true",
        False,
    ),
    (
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect"),
        "the bucket '{bucket}' is in another region",
        "{modify} region REGION",
        False,
    ),
    (
        ("SlowDown", "RequestLimitExceeded", "ServerBusy", "Throttling", "ThrottlingException", "RequestThrottled"),
        "the service asks to slow down",
        "use fewer --jobs, or try later",
        True,
    ),
    (("QuotaExceeded", "XMinioStorageFull"), "the store is full", "free some space there, then run it again", False),
    (("RequestTimeout",), "the service got no more bytes for a while", "check the network, then run it again", True),
    (
        ("OperationAborted", "ConditionalRequestConflict"),
        "the service was busy with the same object",
        "run it again",
        True,
    ),
    (("NoSuchUpload",), "the upload was ended by somebody else", "run it again", True),
    (("PreconditionFailed", "ConditionNotMet"), "the object is not as it was expected", "run it again", False),
)


def _code(text: str) -> str:
    found = re.search(r"<Code>\s*([A-Za-z0-9.]{1,60})\s*</Code>", text)
    return found[1] if found else ""


def _status(text: str) -> int:
    found = re.search(r"status code: (\d{3})", text)
    return int(found[1]) if found else 0


def _some(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _configured_endpoint(session: Any) -> str:
    """The endpoint that AWS's own tools would use: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or the profile's."""
    import os

    from botocore.configprovider import ConfiguredEndpointProvider

    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3", os.environ)
    return provider.provide() or ""


def _only_to(endpoint: str) -> dict[str, str]:
    """Client options under which requests go to the endpoint's host and nowhere else.

    obstore follows redirects and cannot be told not to. A proxy nobody listens on, with the endpoint excepted, makes a redirect
    to any other host fail. Where the user has a proxy, requests must go through it, and it decides.
    """
    import urllib.request

    if set(urllib.request.getproxies()) - {"no", "ftp"}:
        return {}
    host = urlsplit(endpoint).hostname if endpoint else "amazonaws.com,amazonaws.com.cn"
    return {"proxy_url": "http://127.0.0.1:0", "proxy_excludes": host or ""}
