"""The records of a large create, decoded as they are needed: nothing else is a tenth as large."""

from __future__ import annotations

from typing import Any

import msgspec

from jobtasks.core.errors import Invalid, MalformedRequest, TooLarge
from jobtasks.core.nesting import deeper_than
from jobtasks.core.settings import Settings

LARGE_ITEMS = 2000
"""So many records are decoded, and stored, at once."""


class _Bulk(msgspec.Struct, forbid_unknown_fields=True):
    job_tasks: list[msgspec.Raw]


_decode_bulk = msgspec.json.Decoder(_Bulk).decode
_decode_item = msgspec.json.Decoder().decode


class Items:
    """The records of a large create, each decoded when it is asked for."""

    def __init__(self, raws: list[msgspec.Raw], depth_max: int) -> None:
        self._raws = raws
        self._depth_max = depth_max

    def __len__(self) -> int:
        return len(self._raws)

    def decoded(self, first: int, count: int) -> list[dict[str, Any]]:
        """Return `count` records from number `first` on.

        Raises:
            MalformedRequest: one is not JSON.
            Invalid: one is no object.
            TooLarge: one is nested too deep.
        """
        places = range(first, min(first + count, len(self)))
        items = [self._one(place) for place in places]
        # The list and the object around it are two levels more; these are one.
        if deeper_than(items, self._depth_max - 1):
            raise self._too_deep()
        return items

    def _one(self, place: int) -> dict[str, Any]:
        try:
            item = _decode_item(self._raws[place])
        except RecursionError:
            raise self._too_deep() from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise MalformedRequest(
                f"The request body is not valid JSON: job_tasks[{place}]: {error}"
            ) from None
        if type(item) is not dict:
            raise Invalid(f"job_tasks[{place}] must be an object")
        return item

    def _too_deep(self) -> TooLarge:
        return TooLarge(f"A request body must not be nested deeper than {self._depth_max} levels.")


def large_items(raw: bytes, settings: Settings) -> Items | None:
    """Return what a body brings when it is a large create and nothing else; None: see otherwise.

    Raises:
        TooLarge: there are more tasks than one call may create.
    """
    if len(raw) < LARGE_ITEMS * len("{},"):
        return None
    try:
        raws = _decode_bulk(raw).job_tasks
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if len(raws) > settings.bulk_tasks_max:
        raise TooLarge(f"job_tasks must have at most {settings.bulk_tasks_max} items")
    return Items(raws, settings.depth_max) if len(raws) > LARGE_ITEMS else None
