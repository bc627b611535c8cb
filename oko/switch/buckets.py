"""What inserting and removing single buckets makes of a group (OpenFlow 1.5.1, 7.3.4.3).

A pure function: the bridge replaces the group by what comes out. Buckets of a group that came over
an earlier version have no numbers of their own; they get those under which 1.5 shows them, and keep
them from then on.
"""

from __future__ import annotations

from dataclasses import replace

from oko.errors import OkoError
from oko.model.fields import PORT_ANY
from oko.model.flow import (
    BUCKET_ALL,
    BUCKET_FIRST,
    BUCKET_LAST,
    GROUP_ANY,
    GROUP_TYPES,
    Bucket,
    Group,
    GroupMod,
)

_SELECT, _INDIRECT, _FF = GROUP_TYPES["select"], GROUP_TYPES["indirect"], GROUP_TYPES["ff"]


class BucketError(OkoError):
    """The buckets cannot be changed so. name: of the OpenFlow error."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def changed(group: Group, change: GroupMod) -> Group:
    """The group after insert_bucket or remove_bucket; BucketError."""
    buckets = [b if b.id is not None else replace(b, id=i) for i, b in enumerate(group.buckets)]
    if change.command == "insert_bucket":
        buckets = _inserted(group, buckets, change)
    else:
        buckets = _removed(buckets, change.bucket)
    if group.type == _INDIRECT and len(buckets) != 1:
        raise BucketError(
            f"group {group.id} is indirect: it has exactly one bucket", "OFPGMFC_INVALID_GROUP"
        )
    return replace(group, buckets=tuple(buckets))


def _place(buckets: list[Bucket], number: int) -> int:
    """The index of the bucket that a command names."""
    if buckets and number in (BUCKET_FIRST, BUCKET_LAST):
        return 0 if number == BUCKET_FIRST else len(buckets) - 1
    for index, bucket in enumerate(buckets):
        if bucket.id == number:
            return index
    have = ", ".join(str(bucket.id) for bucket in buckets) or "none"
    which = {BUCKET_FIRST: "first", BUCKET_LAST: "last"}.get(number, number)
    raise BucketError(f"there is no bucket {which}; there are {have}", "OFPGMFC_UNKNOWN_BUCKET")


def _inserted(group: Group, buckets: list[Bucket], change: GroupMod) -> list[Bucket]:
    if change.bucket == BUCKET_FIRST:
        at = 0
    elif change.bucket == BUCKET_LAST:
        at = len(buckets)
    else:
        at = _place(buckets, change.bucket) + 1
    new = [_fitting(group, bucket) for bucket in change.group.buckets]
    have = {bucket.id for bucket in buckets}
    for bucket in new:
        if bucket.id in have:
            raise BucketError(
                f"group {group.id} has a bucket {bucket.id} already", "OFPGMFC_BUCKET_EXISTS"
            )
    return buckets[:at] + new + buckets[at:]


def _fitting(group: Group, bucket: Bucket) -> Bucket:
    """The bucket as its group's type has it. A weight of 0 stands for none given."""
    if group.type != _SELECT and bucket.weight:
        raise BucketError("weights are for groups of type select", "OFPGMFC_INVALID_GROUP")
    if group.type == _FF and bucket.watch_port == PORT_ANY and bucket.watch_group == GROUP_ANY:
        raise BucketError(
            "a bucket of type ff must watch a port or a group", "OFPGMFC_INVALID_GROUP"
        )
    return replace(bucket, weight=bucket.weight or 1)


def _removed(buckets: list[Bucket], number: int) -> list[Bucket]:
    if number == BUCKET_ALL:
        return []
    at = _place(buckets, number)
    return buckets[:at] + buckets[at + 1 :]
