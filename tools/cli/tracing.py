"""A profile as a trace that ui.perfetto.dev and chrome://tracing open: the kernels of one run, their modules and pieces.

The form is the JSON Object Format of Chrome's Trace Event Format: complete events (`ph` X) with microseconds, and metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .attribution import NOT_ATTRIBUTED, Attribution

if TYPE_CHECKING:
    from irc.runtime import Kernel, Profile

    from .output import Json

KERNELS, MODULES, PIECES = 1, 2, 3
"""The tracks of a trace."""
_PROCESS = 1


def trace_file(profile: Profile, to: Mapping[Kernel, Attribution], title: str, separator: str) -> bytes:
    """The trace of a profile's last run, in UTF-8."""
    tracks = {KERNELS: "kernels", MODULES: "modules", **({PIECES: "pieces"} if profile.parts else {})}
    spans = [*_kernels(profile, to, separator), *_modules(profile, to, separator), *_pieces(profile)]
    events = [*_names(title, tracks), *spans]
    listed: list[Json] = list(events)
    other: dict[str, Json] = {"engine": profile.engine, "threads": profile.threads, "run_ms": profile.run_ms}
    trace: dict[str, Json] = {"traceEvents": listed, "displayTimeUnit": "ms", "otherData": other}
    return json.dumps(trace, ensure_ascii=False, indent=None, allow_nan=False).encode()


def _names(title: str, tracks: Mapping[int, str]) -> Iterator[dict[str, Json]]:
    yield {"ph": "M", "pid": _PROCESS, "tid": 0, "name": "process_name", "args": {"name": title}}
    for track, name in tracks.items():
        yield {"ph": "M", "pid": _PROCESS, "tid": track, "name": "thread_name", "args": {"name": name}}
        yield {"ph": "M", "pid": _PROCESS, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}


def _complete(track: int, category: str, name: str, start: float, end: float, arguments: dict[str, Json]) -> dict[str, Json]:
    where: dict[str, Json] = {"ph": "X", "pid": _PROCESS, "tid": track, "cat": category, "ts": start, "dur": end - start}
    return {**where, "name": name, "args": arguments}


def _kernels(profile: Profile, to: Mapping[Kernel, Attribution], separator: str) -> Iterator[dict[str, Json]]:
    for call in profile.calls:
        kernel, where = call.kernel, to[call.kernel]
        arguments: dict[str, Json] = {
            "kernel": kernel.name,
            "location": ", ".join(origin for source in kernel.sources for origin in source.origins) or NOT_ATTRIBUTED,
            "line": where.line,
            "module": separator.join(where.module or ()),
            "rule": where.rule,
            "inputs": ", ".join(kernel.inputs),
            "outputs": ", ".join(kernel.outputs),
        }
        if kernel.implementation:
            arguments["implementation"] = kernel.implementation
        yield _complete(KERNELS, "kernel", kernel.op, call.start, call.start + call.duration, arguments)


def _modules(profile: Profile, to: Mapping[Kernel, Attribution], separator: str) -> Iterator[dict[str, Json]]:
    """A span for each stretch of kernels in one module, those of inner modules inside; an outer span comes after them."""
    open_spans: list[tuple[str, float]] = []
    end = 0.0

    def close(depth: int) -> Iterator[dict[str, Json]]:
        while len(open_spans) > depth:
            path = separator.join(name for name, _ in open_spans)
            name, start = open_spans.pop()
            yield _complete(MODULES, "module", name, start, end, {"module": path})

    for call in profile.calls:
        if call.start + call.duration <= end:  # inside the body of an op that is counted already
            continue
        path = to[call.kernel].module or ()
        same = 0
        while same < min(len(path), len(open_spans)) and open_spans[same][0] == path[same]:
            same += 1
        yield from close(same)
        open_spans.extend((name, call.start) for name in path[same:])
        end = call.start + call.duration
    yield from close(0)


def _pieces(profile: Profile) -> Iterator[dict[str, Json]]:
    """A span for each part of a program of several, over the calls of its kernels."""
    for part in profile.parts:
        own = [call for call in profile.calls if call.kernel.part == part.name]
        if own:
            end = max(call.start + call.duration for call in own)
            passed: dict[str, Json] = {
                "takes": ", ".join(each.name for each in part.takes),
                "makes": ", ".join(each.name for each in part.makes),
            }
            yield _complete(PIECES, "piece", f"{part.name} on {part.engine}", own[0].start, end, passed)
