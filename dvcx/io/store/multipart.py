"""Unfinished multipart uploads on S3: listed and aborted through botocore, because obstore can do neither.

botocore is imported when it is needed, and only for this: its client takes a fifth of a second to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

OURS = ("objects/", "packs/", "index/", "actions/", "trash/", "quarantine/", "check/")
"""How names in a store begin; a bucket without a prefix may hold other people's uploads too."""


class Refused(Exception):
    """The service said no: its error code, the HTTP status (0: it was not reached), and what was being done."""

    def __init__(self, code: str, status: int, doing: str) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.doing = doing


class Place(NamedTuple):
    """A bucket and how to get in. `prefix` ends with a slash unless it is empty; seconds."""

    bucket: str
    prefix: str
    settings: Mapping[str, str]
    timeout: float


def abort_uploads(place: Place, name: str, older: float) -> int:
    """Abort the uploads of `name` ("": of all names a store has) that began more than `older` seconds ago; how many.

    The ages are told by the service's own clock. Raises `Refused`.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    doing = "listing uploads"
    try:
        client = _client(place)
        try:
            stale = _stale(client, place, name, older)
            doing = "aborting an upload"
            for key, upload in stale:
                client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=upload)
        finally:
            client.close()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "NoSuchUpload":  # what `rclone serve s3` says to a listing without any, and all to one that is gone
            return 0
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise Refused(code, int(status), doing) from None
    except HTTPClientError:
        raise Refused("", 0, doing) from None
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint botocore does not take
        raise Refused(type(error).__name__, 0, doing) from None
    return len(stale)


def _stale(client: Any, place: Place, name: str, older: float) -> list[tuple[str, str]]:
    from datetime import timedelta
    from email.utils import parsedate_to_datetime

    found: list[tuple[str, str]] = []
    marker: dict[str, str] = {}
    while True:
        answer = client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix + name, **marker)
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]) + timedelta(seconds=1)  # no fractions
        for upload in answer.get("Uploads", ()):
            key = upload["Key"]
            ours = key == place.prefix + name if name else key.removeprefix(place.prefix).startswith(OURS)
            if ours and key.startswith(place.prefix) and (now - upload["Initiated"]).total_seconds() >= older:
                found.append((key, upload["UploadId"]))
        following = {
            "KeyMarker": answer.get("NextKeyMarker", ""),
            "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
        }
        if not answer.get("IsTruncated") or not following["KeyMarker"] or following == marker:
            return found
        marker = following


def _client(place: Place) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    settings = place.settings
    return Session().create_client(
        "s3",
        region_name=settings["region"],
        endpoint_url=settings.get("endpoint") or None,
        aws_access_key_id=settings["access_key_id"],
        aws_secret_access_key=settings["secret_access_key"],
        aws_session_token=settings.get("session_token") or None,
        config=Config(
            connect_timeout=min(10.0, place.timeout),
            read_timeout=place.timeout,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
