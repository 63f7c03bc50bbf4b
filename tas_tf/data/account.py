"""Accounts of what of a data set is read: classes, kinds of images, and what is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_EXAMPLES = 3
_CLASSES = 12  # names of classes that are shown one by one


@dataclasses.dataclass
class Account:
    """What of a data set is read.

    Args:
        classes: Number of images by class, of each split; empty where labels tell it alone.
        sample: What its properties were inferred from, for people; "" where metadata tell them.
        notes: What people should know: mixtures, and what looks like a mistake.
        left_out: For each reason how many files are left out, and the first few.
    """

    classes: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    sample: str = ""
    notes: list[str] = dataclasses.field(default_factory=list)
    left_out: dict[str, tuple[int, list[str]]] = dataclasses.field(default_factory=dict)

    def leave_out(self, reason: str, example: str, files: int = 1) -> None:
        """Counts what is left out.

        Args:
            reason: Why.
            example: The path of one.
            files: How many.
        """
        before, examples = self.left_out.get(reason, (0, []))
        self.left_out[reason] = before + files, [*examples, example][:_EXAMPLES]

    def lines(self, label_names: Sequence[str]) -> list[str]:
        """Returns it for people, a line each.

        Args:
            label_names: Names of the classes, in the order of their labels.
        """
        counts = self.classes.get("train", {})
        named = [
            _plain(name) + (f" ({counts[name]:,})" if name in counts else "")
            for name in label_names
        ]
        if len(named) > _CLASSES:
            more = len(named) - _CLASSES + 1
            named = [*named[: _CLASSES - 2], f"{more:,} more", named[-1]]
        lines = [f"Classes: {', '.join(named)}"]
        if self.sample:
            lines.append(f"Looked at: {self.sample}")
        lines += [f"Note: {note}" for note in self.notes]
        for reason, (files, examples) in self.left_out.items():
            rest = ", ..." if files > len(examples) else ""
            shown = ", ".join(map(repr, examples))
            lines.append(f"Left out: {files:,} {reason}: {shown}{rest}")
        return lines

    def record(self) -> dict[str, Any]:
        """Returns it as plain values for JSON."""
        left_out = [
            {"reason": reason, "files": files, "examples": examples}
            for reason, (files, examples) in self.left_out.items()
        ]
        return {**dataclasses.asdict(self), "left_out": left_out}


def _plain(name: str) -> str:
    """Returns a name as it is, or as Python writes it where a line would hide where it ends."""
    clear = name.isprintable() and "," not in name and name == name.strip()
    return name if clear else repr(name)
