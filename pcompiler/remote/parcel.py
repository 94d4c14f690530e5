"""What a remote holds, and how it is sent and fetched: nothing is taken for what it is not.

    v1/artifacts/ab/<id>       header record, with its own SHA-256
    v1/bodies/cd/<SHA-256>     a body, under its own hash
    v1/texts/ef/<hash>         a prompt or a list of probes, UTF-8, under its content hash

Bodies and texts never change, so writers cannot disturb each other. The header goes up last: who
sees it finds the rest, whole. Of two writers' headers for one id the later stays, and either
names its own body. Texts need no dictionary; each store compresses them with its own.

What a writer left that was killed before its header ``sweep`` removes once it is old. What is old
already when a writer comes upon it is therefore put once more, and looked for in the end.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pcompiler.errors import DamageError, MismatchError, NotFoundError
from pcompiler.remote.bucket import Bucket
from pcompiler.store.artifact import MAX_HEADER_BYTES, Artifact, Header
from pcompiler.store.db import Store, Text
from pcompiler.store.key import content_hash

ARTIFACTS, BODIES, TEXTS = "v1/artifacts", "v1/bodies", "v1/texts"
MAX_TEXT_BYTES = 64 * 2**20
MAX_BODY_BYTES = 16 * 2**30
WHOLE_ID = re.compile(r"[0-9a-f]{24}")
BEGINNING = re.compile(r"[0-9a-f]{4,24}")
_SHA256, _HASH = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")
_FRAME_BYTES = 48  # of a header record, beside its JSON
FRESH_S = 12 * 3_600.0  # what lies there for longer is put again: it may be swept meanwhile


@dataclass(frozen=True)
class Parcel:
    """An artifact with those of its texts that there are, each with its family."""

    artifact: Artifact
    texts: tuple[Text, ...]

    @property
    def source(self) -> str | None:
        """The prompt, if it is there."""
        return next((text for kind, text in self.texts if kind == "prompts"), None)


def path(folder: str, name: str) -> str:
    """Key of an object: by the first two digits of its name."""
    return f"{folder}/{name[:2]}/{name}"


def packed(store: Store, artifact_id: str) -> Parcel | None:
    """What a store has of an artifact; nothing, if that was deleted. Raises DamageError."""
    header = Store.find(store, artifact_id)
    body = store.records.get("tensors", artifact_id.encode())
    if header is None or body is None:
        return None
    artifact = Artifact(header, body)
    artifact.check()
    found = [("prompts", store.source(header.prompt_hash))]
    found += [("probes", store.probes(name)) for name in _lists(header)]
    return Parcel(artifact, tuple((kind, text) for kind, text in found if text is not None))


async def send(bucket: Bucket, parcel: Parcel, replace: bool = False) -> None:
    """Put a parcel into a bucket.

    Args:
        bucket: where to.
        parcel: what.
        replace: also what seems to be there already, by name and length.

    Raises:
        RemoteError: no answer, or a refusal; what is there by then does no harm.
    """
    header = parcel.artifact.header
    parts = {path(BODIES, header.body_sha256): parcel.artifact.body}
    for _, text in parcel.texts:
        parts[path(TEXTS, content_hash(text))] = text.encode()
    old = await asyncio.gather(*(_put(bucket, key, data, replace) for key, data in parts.items()))
    await bucket.put(path(ARTIFACTS, header.id), header.record())
    for key in (key for key, lay in zip(parts, old, strict=True) if lay):
        if await bucket.find(key) is None:
            await bucket.put(key, parts[key], fresh=True)


async def _put(bucket: Bucket, key: str, data: bytes, replace: bool) -> bool:
    """Have an object there that never changes; whether it had been there for long."""
    there = await bucket.find(key)
    old = there is not None and time.time() - there.modified > FRESH_S
    if replace or old or there is None or there.size_bytes != len(data):
        await bucket.put(key, data, fresh=there is None and not replace)
    return old


async def fetch(bucket: Bucket, artifact_id: str) -> Parcel | None:
    """An artifact from a bucket; nothing where it has none of this id.

    Raises:
        DamageError: what is there is not what was sent; says what differs.
        MismatchError: it is of a newer format.
        RemoteError: no answer, or a refusal.
    """
    try:
        return await _fetched(bucket, artifact_id)
    except DamageError as e:
        raise DamageError(
            f"{e} Ask again; if it stays so, 'pcompiler store push {artifact_id} --replace', "
            "on a machine that has it whole, mends it."
        ) from None


async def _fetched(bucket: Bucket, artifact_id: str) -> Parcel | None:
    header = await header_of(bucket, artifact_id)
    if header is None:
        return None
    kinds = {header.prompt_hash: "prompts"} | dict.fromkeys(_lists(header), "probes")
    body, texts = await asyncio.gather(
        _body(bucket, header), asyncio.gather(*(_text(bucket, name) for name in kinds))
    )
    found = zip(kinds.values(), texts, strict=True)
    there = tuple((kind, text) for kind, text in found if text is not None)
    return Parcel(Artifact(header, body), there)


async def header_of(bucket: Bucket, artifact_id: str) -> Header | None:
    """The header of an artifact in a bucket; raises as ``fetch`` does."""
    key = path(ARTIFACTS, artifact_id)
    record = await bucket.get(key, MAX_HEADER_BYTES + _FRAME_BYTES)
    if record is None:
        return None
    try:
        header, length = Header.parse(record)
    except (DamageError, MismatchError) as e:
        raise type(e)(f"{key} in {bucket.url} was refused: {e}") from None
    if header.id != artifact_id or length != len(record):
        raise DamageError(
            f"{key} in {bucket.url} was refused: it is the header of {header.id}, with "
            f"{len(record) - length} bytes behind it."
        )
    _check_names(header, f"{key} in {bucket.url}")
    return header


def parts_of(header: Header) -> set[str]:
    """Keys of the body and the texts that a header names."""
    texts = (header.prompt_hash, *_lists(header))
    return {path(BODIES, header.body_sha256), *(path(TEXTS, name) for name in texts)}


def is_part(key: str) -> bool:
    """Whether a key can be that of a body or a text."""
    name = key.rpartition("/")[2]
    return (bool(_SHA256.fullmatch(name)) and key == path(BODIES, name)) or (
        bool(_HASH.fullmatch(name)) and key == path(TEXTS, name)
    )


def _check_names(header: Header, where: str) -> None:
    """Before they become keys. Raises DamageError: they are no hashes, or no length."""
    names = (header.prompt_hash, *_lists(header))
    good = _SHA256.fullmatch(str(header.body_sha256)) and all(
        _HASH.fullmatch(str(n)) for n in names
    )
    if not good or not isinstance(header.body_bytes, int) or header.body_bytes < 0:
        raise DamageError(f"{where} was refused: its hashes or lengths are none that can be.")


async def _body(bucket: Bucket, header: Header) -> bytes:
    key = path(BODIES, header.body_sha256)
    data = await bucket.get(key, min(header.body_bytes, MAX_BODY_BYTES))
    if data is None:
        raise DamageError(f"{key} is not in {bucket.url}; artifact {header.id} has lost its body.")
    try:
        Artifact(header, data).check()
    except DamageError as e:
        raise DamageError(f"{key} in {bucket.url} was refused: {e}") from None
    return data


async def _text(bucket: Bucket, name: str) -> str | None:
    """A text; an artifact works without."""
    key = path(TEXTS, name)
    data = await bucket.get(key, MAX_TEXT_BYTES)
    if data is None:
        return None
    text = data.decode(errors="replace")
    if content_hash(text) != name:
        raise DamageError(
            f"{key} in {bucket.url} was refused: its {len(data)} bytes are another text's, "
            f"whose hash is {content_hash(text)}."
        )
    return text


async def listed(bucket: Bucket, beginning: str = "") -> AsyncIterator[str]:
    """Ids of the artifacts in a bucket; those that begin so, two digits at least."""
    folder = path(ARTIFACTS, beginning).rpartition("/")[0] if beginning else ARTIFACTS
    after = path(ARTIFACTS, beginning) if beginning else None
    async for found in bucket.list(folder, after):
        name = found.key.rpartition("/")[2]
        if WHOLE_ID.fullmatch(name) and name.startswith(beginning):
            yield name


async def whole_id(bucket: Bucket, beginning: str) -> str | None:
    """The one id in a bucket that begins so; none where there is none.

    Raises:
        NotFoundError: there are several.
    """
    found: list[str] = []
    async for name in listed(bucket, beginning):
        found.append(name)
        if len(found) > 1:
            raise NotFoundError(f"several artifacts in {bucket.url} begin with {beginning!r}.")
    return found[0] if found else None


async def forget(bucket: Bucket, artifact_id: str) -> None:
    """Remove an artifact from a bucket: its header; others may have its body and texts."""
    await bucket.delete(path(ARTIFACTS, artifact_id))


def _lists(header: Header) -> list[str]:
    """Content hashes of its lists of probes."""
    fitting = header.fit.get("probes_hash")
    return [header.probes_hash, *([fitting] if isinstance(fitting, str) else [])]
