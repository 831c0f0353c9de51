"""Positions for LLVM: which Python line every instruction came from.

LLVM turns this metadata into `.BTF` and `.BTF.ext` by itself, and the kernel's verifier then quotes the author's
line. Three details make the kernel accept it: the file's text is given in `DIFile(source:)`, so no file need exist;
the entry's subprogram retains a variable named `ctx`, or the FUNC is refused ("Invalid arg#1"); and an inlined
function is a scope of its own whose locations name the call (`inlinedAt`).
"""
from __future__ import annotations

import linecache
import os
import re

from .errors import Scope, Span

_STRANGE = re.compile(r'[^ !#-\[\]-~]')         # everything but printable ASCII without quote and backslash


def _quoted(text: str) -> str:
    return '"' + _STRANGE.sub(lambda found: "".join(f"\\{byte:02X}" for byte in found[0].encode()), text) + '"'


class DebugInfo:
    """Collects metadata nodes and prints them.  `context` names the structure behind the program's argument."""

    def __init__(self, context: tuple[str, int]) -> None:
        self.nodes: list[str] = []
        self.known: dict[object, str] = {}
        self.context = context
        self.unit = ""

    def node(self, text: str) -> str:
        self.nodes.append(text)
        return f"!{len(self.nodes) - 1}"

    def once(self, key: object, text: str) -> str:
        if key not in self.known:
            self.known[key] = self.node(text)
        return self.known[key]

    def file(self, path: str) -> str:
        if path not in self.known:
            directory, name = os.path.split(path)
            source = _quoted("".join(linecache.getlines(path)))
            self.known[path] = self.node(f"!DIFile(filename: {_quoted(name)}, directory: {_quoted(directory)}, "
                                         f"source: {source})")
        return self.known[path]

    def subprogram(self, scope: Scope, entry: bool = False) -> str:
        key = ("scope", scope.name, scope.file, scope.line)
        if key in self.known:
            return self.known[key]
        file = self.file(scope.file)
        if not self.unit:
            self.unit = self.node(f"distinct !DICompileUnit(language: DW_LANG_Python, file: {file}, "
                                  'producer: "iovisor", '
                                  "isOptimized: true, runtimeVersion: 0, emissionKind: FullDebug)")
        name, bits = self.context
        result = self.once("result", '!DIBasicType(name: "unsigned int", size: 32, encoding: DW_ATE_unsigned)')
        empty = self.once("empty", "!{}")
        struct = self.once("struct", f'!DICompositeType(tag: DW_TAG_structure_type, name: "{name}", file: {file}, '
                                     f"size: {bits}, elements: {empty})")
        pointer = self.once("pointer", f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {struct}, size: 64)")
        types = self.once("types", f"!{{{result}, {pointer}}}")
        kind = self.once("kind", f"!DISubroutineType(types: {types})")
        number = len(self.nodes)
        retained = f", retainedNodes: !{number + 2}"
        node = self.node(f"distinct !DISubprogram(name: {_quoted(scope.name)}, scope: {file}, file: {file}, "
                         f"line: {scope.line}, type: {kind}, scopeLine: {scope.line}, "
                         f"spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: {self.unit}{retained})")
        variable = self.node(f'!DILocalVariable(name: "ctx", arg: 1, scope: {node}, file: {file}, line: {scope.line}, '
                             f"type: {pointer})")
        self.node(f"!{{{variable}}}")
        self.known[key] = node
        return node

    def location(self, span: Span) -> str:
        caller = self.location(span.scope.caller) if span.scope.caller is not None else ""
        key = (span.line, span.column, span.scope.name, span.scope.file, span.scope.line, caller)
        if key not in self.known:
            scope = self.subprogram(span.scope)
            inlined = f", inlinedAt: {caller}" if caller else ""
            kind = "distinct !DILocation" if caller else "!DILocation"
            where = f"line: {span.line}, column: {span.column + 1}, scope: {scope}{inlined}"
            self.known[key] = self.node(f"{kind}({where})")
        return self.known[key]

    def text(self) -> str:
        flags = [self.node('!{i32 2, !"Debug Info Version", i32 3}'), self.node('!{i32 2, !"Dwarf Version", i32 5}')]
        lines = [f"!{i} = {text}" for i, text in enumerate(self.nodes)]
        return (f"\n!llvm.module.flags = !{{{', '.join(flags)}}}\n!llvm.dbg.cu = !{{{self.unit}}}\n" + "\n".join(lines)
                + "\n")
