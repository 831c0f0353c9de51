"""Text to nodes: YAML 1.2, and JSON, which is a part of it.

libyaml finds the events; what they mean is decided here, because PyYAML's own constructor speaks YAML 1.1, to which
the MAC address `10:20:30:40:50:59` is a number of base 60, `on` and `NO` are truth values, `010` is 8, and the second
of two equal keys wins.  Here a plain scalar is null, true, false or a number where YAML 1.2's core schema says so, and
text otherwise; equal keys are an error, keys are always text, and so are `.inf` and `.nan`, because JSON has neither.

A document is data, not a program: no tags, no merge keys.  Anchors and aliases are allowed, but what they unfold to
counts; so does depth, and length.  All limits are far beyond any network, and well within a moment's work.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from .errors import Problem, Refused
from .tree import MOST, Node, Place

MOST_BYTES = 4 << 20
MOST_NODES = 200_000
DEEPEST = 32
LONGEST_NUMBER = 32

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = re.compile("true|True|TRUE"), re.compile("false|False|FALSE")
_INTEGER, _BASED = re.compile(r"[-+]?[0-9]+"), re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PAIR = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_TEXT_TAGS = {"tag:yaml.org,2002:str", "!"}

#: What libyaml says, and what people need to hear: a part of the one, the other, and how to mend it.
_SAID = (
    ("exceeded maximum nesting depth", f"this is nested more than {DEEPEST} levels deep",
     "no network needs that: flatten it"),
    ("cannot start any token", "a tab or a sign that YAML reserves begins a value here",
     "indent with spaces, not tabs; quote text that begins with one of @ ` % | > & * !"),
    ("mapping values are not allowed", "there is a colon too many: `name: value` within a value",
     "quote text with a colon and a space in it; begin a nested mapping on a line of its own"),
    ("did not find expected ',' or ']'", "a list that began with [ is not closed",
     "separate items with , and end with ]"),
    ("did not find expected ',' or '}'", "a mapping that began with { is not closed",
     "separate fields with , and end with }"),
    ("did not find expected key", "this line does not belong to the mapping around it",
     "indent it like the fields beside it; a list's items begin with - and a space"),
    ("did not find expected '-' indicator", "this line does not belong to the list around it",
     "begin each item with - and a space, in the same column"),
    ("could not find expected ':'", "a name without a colon", "write `name: value`"),
    ("found unexpected end of stream", "a quote is opened and never closed", "close it, or leave both quotes away"),
    ("found undefined alias", "this alias has no anchor before it", "write &name where the value stands first"),
    ("did not find expected <document start>", "something follows where the document ended",
     "separate documents with a line of three dashes"),
    ("unknown escape character", "a backslash followed by a letter that means nothing",
     "double the backslash, or use single quotes"),
    ("invalid Unicode character escape", "this escape stands for half a character", "write the character itself"),
)


class _Stop(Exception):
    """A problem after which nothing more can be read."""

    def __init__(self, place: Place, what: str, fix: str = "") -> None:
        self.place, self.what, self.fix = place, what, fix


def read(source: str | bytes, file: str) -> list[Node]:
    """The documents of a text; `file` is what problems call it.  Refused says all that is wrong with the text."""
    reader = _Reader(file)
    try:
        return [reader.document(event) for event in reader.begin(source)]
    except _Stop as stop:
        reader.problem(stop.place, stop.what, stop.fix)
    finally:
        if reader.problems:
            raise Refused(reader.problems) from None
    raise AssertionError("a stop is a problem")


class _Reader:
    def __init__(self, file: str) -> None:
        self.file, self.problems = file, list[Problem]()
        self.anchors: dict[str, Node | None] = {}
        self.nodes = 0

    def problem(self, place: Place, what: str, fix: str = "") -> None:
        self.problems.append(Problem(self.file, *place, (), what, fix))
        if len(self.problems) > MOST:
            raise Refused(self.problems)

    def begin(self, source: str | bytes) -> Iterator[Any]:
        """The first event of each document's content."""
        import yaml
        self.events = _events(decoded(source))
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors, self.nodes = {}, 0
                yield next(self.events)
            elif isinstance(event, yaml.StreamEndEvent):
                return

    def document(self, event: Any) -> Node:
        return self.node(event, 0)

    def node(self, event: Any, depth: int) -> Node:
        """The node that begins with an event."""
        import yaml
        place = _place(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _Stop(place, f"there is no anchor &{event.anchor} before this alias",
                            f"write &{event.anchor} where the value stands first")
            node = self.anchors[event.anchor]
            if node is None:
                raise _Stop(place, f"*{event.anchor} contains itself", "write the value out")
            self.count(node.size, place)
            return node
        if depth > DEEPEST:
            raise _Stop(place, f"this is nested more than {DEEPEST} levels deep", "no network needs that: flatten it")
        self.count(1, place)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.problem(place, "tags such as !name have no meaning here", "write the plain value")
        if isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(place, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(inner, depth + 1))
            node = Node(items, place, size=1 + sum(item.size for item in items))
        else:
            text = event.value
            plain = event.implicit[0] and event.tag is None
            node = Node(self.scalar(text, place) if plain else text, place, text=text)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def mapping(self, place: Place, depth: int) -> Node:
        import yaml
        fields: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            at = _place(event)
            name = self.name(event, at, depth)
            node = self.node(next(self.events), depth + 1)
            if name is None:
                continue
            if name in fields:
                first = (fields[name].key or at)[0]
                self.problem(at, f"{name!r} is here a second time; it stands in line {first} already",
                             "keep one of the two, or give one another name")
                continue
            fields[name] = Node(node.value, node.place, at, node.text, node.size)
        return Node(fields, place, size=1 + sum(node.size for node in fields.values()))

    def name(self, event: Any, place: Place, depth: int) -> str | None:
        """The text of a key."""
        key = self.node(event, depth + 1)
        if not isinstance(key.value, dict | list):
            if key.text == "<<" and event.__class__.__name__ == "ScalarEvent" and event.implicit[0]:
                self.problem(place, "merge keys (<<) are not part of YAML 1.2",
                             "repeat the fields, or alias the whole mapping: `labels: *web`")
                return None
            if key.text or event.__class__.__name__ == "AliasEvent" or not event.implicit[0]:
                return key.text
        self.problem(place, "a key must be a name", "write `name: value`")
        return None

    def scalar(self, text: str, place: Place) -> str | int | float | bool | None:
        """What a plain scalar means in YAML 1.2's core schema."""
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        whole, based = _INTEGER.fullmatch(text), _BASED.fullmatch(text)
        if not (whole or based or _FLOAT.fullmatch(text)):
            return text
        if len(text) <= LONGEST_NUMBER:
            number = int(text) if whole else int(text, 0) if based else float(text)
            if math.isfinite(number):
                return number
        self.problem(place, "this number is too large", "quote it if it is a name")
        return None

    def count(self, nodes: int, place: Place) -> None:
        self.nodes += nodes
        if self.nodes > MOST_NODES:
            raise _Stop(place, f"the document unfolds to more than {MOST_NODES:,} values",
                        "make it smaller: several networks are several documents")


def decoded(source: str | bytes) -> str:
    """The text of a file."""
    if len(source) > MOST_BYTES:
        raise _Stop((1, 1), f"the document has {len(source):,} bytes; {MOST_BYTES:,} is the most",
                    "make it smaller: several networks are several documents")
    if isinstance(source, bytes):
        try:
            text = source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = source[:error.start].decode("utf-8", "replace")
            raise _Stop(_end(before), f"byte {source[error.start]:#04x} is not UTF-8",
                        "save the file as UTF-8") from None
    else:
        text = source.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):         # JSON may spell a character beyond 0xffff as two escapes; YAML may not
        text = _PAIR.sub(lambda pair: bytes.fromhex(pair[1] + pair[2]).decode("utf-16-be"), text)
    return text


def _events(text: str) -> Iterator[Any]:
    """libyaml's events; what it cannot parse, in our words."""
    import yaml
    try:
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        said = str(error.problem or error)
        opened = "did not find expected ','" in said or "unexpected end of stream" in said
        mark = error.context_mark if opened and error.context_mark else error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what, fix = next(((what, fix) for part, what, fix in _SAID if part in said), (f"this is not YAML: {said}", ""))
        raise _Stop(place, what, fix) from None
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        sign = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        before = text.encode("utf-8", "replace")[:position].decode("utf-8", "replace")
        raise _Stop(_end(before), f"the character {sign:#06x} may not stand in a document", "remove it") from None
    except UnicodeEncodeError as error:
        raise _Stop(_end(text[:error.start]), "half a character stands here", "save the file as UTF-8") from None


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _end(before: str) -> Place:
    """The place after a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


__all__ = ["DEEPEST", "MOST_BYTES", "MOST_NODES", "read"]
