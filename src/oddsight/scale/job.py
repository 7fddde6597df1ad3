"""A job: which model scores which images into which place. It is written there, so that no other job mixes with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from oddsight.errors import ImageError, OddsightError
from oddsight.runtime.stores import Store

SCHEMA = 1
"""Version of the columns and of how they come about."""

JOB, STATUS, SUMMARY, ALARMS = "job.json", "status.json", "summary.json", "alarms.parquet"

MANIFEST = "manifest-"
"""How manifests' names begin."""

_SCORES = "scores"


@dataclass(frozen=True)
class Job:
    """What decides the rows of a job.

    Attributes:
        sources: What was named.
        model: SHA-256 of the model file, with its threshold.
        reading: Bands and scale of TIFF files, in words.
        shard_images: Images of a shard, at most.
        manifest: SHA-256 of the list of images.
        entries: How many images and tar files it lists.
        size: Their bytes, as far as they are known.
        shards: In how many shards.
        schema: Version of the columns.
        by_class: Whether p-values are within each predicted class.
    """

    sources: list[str]
    model: str
    reading: str
    shard_images: int
    manifest: str = ""
    entries: int = 0
    size: int = 0
    shards: int = 0
    schema: int = SCHEMA
    by_class: bool = False

    @property
    def manifest_name(self) -> str:
        """The manifest's file: by its content, so that two planners cannot spoil each other's."""
        return f"{MANIFEST}{self.manifest[:16]}.parquet"

    @property
    def key(self) -> str:
        """What the names of results carry: of images, model and schema."""
        return hashlib.sha256(f"{self.manifest} {self.model} {self.reading} {self.schema}".encode()).hexdigest()[:16]

    def part_name(self, number: int) -> str:
        """The file of one shard's results."""
        return f"{_SCORES}/part-{number:07d}-{self.key}.parquet"

    def asked(self) -> Job:
        """What was asked for, without what was found."""
        return replace(self, manifest="", entries=0, size=0, shards=0)

    def done(self, store: Store) -> set[int]:
        """The numbers of the shards whose results are there."""
        ends = f"-{self.key}.parquet"
        names = (name.rpartition("/")[2] for name, _ in store.names(_SCORES))
        return {int(name[5 : -len(ends)]) for name in names if name.startswith("part-") and name.endswith(ends)}


def read_job(store: Store) -> Job | None:
    """The job whose results a place holds; None if it holds none.

    Raises:
        OddsightError: Its description is damaged, or of a later version.
    """
    if store.size(JOB) is None:
        return None
    try:
        described = json.loads(store.read(JOB))
        job = Job(**described)
    except (ImageError, ValueError, TypeError):
        raise OddsightError(f"{store.uri}/{JOB} is damaged or not Oddsight's: choose another --out") from None
    if job.schema != SCHEMA:
        raise OddsightError(f"{store.uri} holds results of another version of Oddsight: choose another --out")
    return job


def check_same(job: Job, asked: Job, where: str) -> None:
    """Refuse to continue a job by another one.

    Raises:
        OddsightError: They differ.
    """
    words = {"model": "model or threshold", "sources": "list of images", "reading": "bands or scale"}
    for name, what in {**words, "shard_images": "--shard-images"}.items():
        if getattr(job, name) != getattr(asked, name):
            raise OddsightError(
                f"{where} holds the results of another job, with another {what}: choose another --out, or give the "
                "same as before"
            )


def write_job(store: Store, job: Job) -> Job:
    """Describe a job where its results go, and return the one that holds the place: this one, or one that was first."""
    content = json.dumps(asdict(job), indent=1).encode() + b"\n"
    if store.write(JOB, content, new=True):
        return job
    first = read_job(store)
    return job if first is None else first
