"""The SDK's task, which tells the witness what it does."""

from __future__ import annotations

from note import note  # type: ignore[import-not-found]

from jobtasks_sdk import CurrentTask


class WitnessedTask(CurrentTask):
    """Says which tasks it has created and which verdict was acknowledged, when they were."""

    def create_many(self, tasks):  # type: ignore[no-untyped-def]
        """As the SDK does it, noted."""
        uuids = super().create_many(tasks)
        note("created", *uuids)
        return uuids

    def create(self, *words, **fields):  # type: ignore[no-untyped-def]
        """As the SDK does it, noted."""
        task = super().create(*words, **fields)
        note("created", task.uuid)
        return task

    def complete(self, output: str | None = None) -> None:
        """As the SDK does it, noted."""
        super().complete(output)
        note("said")
