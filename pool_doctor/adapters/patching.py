"""Wrapping methods of classes that are not ours, once each, so that it can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """The methods that one adapter has wrapped."""

    def __init__(self) -> None:
        self._originals: dict[tuple[type, str], Callable[..., Any]] = {}

    def apply(self, owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace a method by what ``wrap`` makes of it, unless that was done already."""
        if (owner, name) not in self._originals:
            original = self._originals[owner, name] = vars(owner)[name]
            setattr(owner, name, wrap(original))

    def undo(self) -> None:
        """Put all methods back."""
        for (owner, name), original in self._originals.items():
            setattr(owner, name, original)
        self._originals.clear()
