"""Images of a process: the second instance of a kind finds what the first compiled, without looking at any file.

In front of the cache of files, if there is one.  A class *is* its code while the process lives; one defined anew is
another class.
"""
from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from ..compiler.cache import Cache, Dependencies
from ..compiler.image import Image
from ..compiler.target import Target
from ..language.function import Function


class Images(Cache):
    """Images kept in memory, and in `behind`."""

    _known: WeakKeyDictionary[type[Function], dict[tuple[str, str], Image]] = WeakKeyDictionary()

    def __init__(self, behind: Cache | None = None) -> None:
        self._behind = behind

    @classmethod
    def bring(cls, kind: type[Function], images: Iterable[Image]) -> None:
        """Images of a kind whose code is in no file here."""
        cls._known[kind] = {(image.entry, image.target): image for image in images}

    def find(self, kind: type[Function], entry: str, target: Target) -> Image | None:
        known = self._known.setdefault(kind, {})
        image = known.get((entry, target.identity))
        if image is None and self._behind is not None:
            image = self._behind.find(kind, entry, target)
            if image is not None:
                known[entry, target.identity] = image
        return image

    def keep(self, kind: type[Function], entry: str, target: Target, image: Image, made_of: Dependencies) -> None:
        self._known.setdefault(kind, {})[entry, target.identity] = image
        if self._behind is not None:
            self._behind.keep(kind, entry, target, image, made_of)
