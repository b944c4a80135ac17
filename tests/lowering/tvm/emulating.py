"""Kernels for Arm on any machine: objects are put into an emulator's memory, linked there, and called as C functions are.

Each buffer ends where its memory ends, to 64 bytes, so that what reads or writes beyond it stops the emulator.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

PAGE = 1 << 12
ALIGNMENT = 64
STUBS, CODE, STACK, DATA = 1 << 23, 1 << 24, 1 << 29, 1 << 32
"""Addresses; a branch reaches 128 MiB."""

STACK_SIZE = 1 << 20
RETURN = struct.pack("<I", 0xD65F03C0)
"""The instruction `ret`."""

ALLOCATED, NO_BITS, SYMBOLS, RELOCATIONS = 2, 8, 2, 4
"""Numbers of ELF: a flag of sections and three of their types."""


class Emulator:
    """An Arm processor with the functions of objects in its memory. Raises an error of the emulator's for a wrong access."""

    def __init__(self, objects: Iterable[bytes]) -> None:
        import unicorn
        from unicorn import arm64_const

        self._registers: Any = arm64_const
        self._cpu: Any = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        for start, size in ((STUBS, PAGE), (STACK, STACK_SIZE)):
            self._cpu.mem_map(start, size)
        self._cpu.mem_write(STUBS, RETURN * (PAGE // len(RETURN)))
        self._cpu.hook_add(unicorn.UC_HOOK_CODE, self._serve, begin=STUBS, end=STUBS + PAGE - 1)
        self._stubs: dict[str, int] = {}
        self._functions: dict[str, int] = {}
        self._code, self._data = CODE, DATA
        for content in objects:
            self._place(_Object(content))

    def put(self, array: np.ndarray) -> int:
        """The address of new memory with the bytes of an array, aligned to 64, and nothing behind it."""
        content = array.tobytes()
        taken = _up(len(content), ALIGNMENT)
        whole = _up(max(taken, 1), PAGE)
        self._cpu.mem_map(self._data, whole)
        address = self._data + whole - taken
        self._data += whole + PAGE
        self._cpu.mem_write(address, content)
        return address

    def get(self, address: int, size: int, dtype: np.dtype[Any]) -> np.ndarray:
        """So many elements that lie at an address."""
        return np.frombuffer(bytes(self._cpu.mem_read(address, size * dtype.itemsize)), dtype)

    def call(self, name: str, task: int, pointers: Sequence[int]) -> None:
        """Call `void name(int32_t task, void *p0, …)`."""
        arguments = [task, *pointers]
        last = STUBS + PAGE - len(RETURN)
        on_stack = b"".join(struct.pack("<Q", each) for each in arguments[8:])
        bottom = STACK + STACK_SIZE - _up(len(on_stack), 16)
        self._cpu.mem_write(bottom, on_stack)
        self._cpu.reg_write(self._registers.UC_ARM64_REG_SP, bottom)
        self._cpu.reg_write(self._registers.UC_ARM64_REG_LR, last)
        for index, value in enumerate(arguments[:8]):
            self._cpu.reg_write(self._registers.UC_ARM64_REG_X0 + index, value)
        self._cpu.emu_start(self._functions[name], last)

    def _place(self, given: _Object) -> None:
        """Put the sections of an object one after the other, and write the addresses of what they name into them."""
        places: dict[int, int] = {}
        end = self._code
        for index, section in enumerate(given.sections):
            if section.flags & ALLOCATED and section.size:
                places[index] = _up(end, max(section.alignment, 1))
                end = places[index] + section.size
        if end > self._code:
            self._cpu.mem_map(self._code, _up(end - self._code, PAGE))
        for index, address in places.items():
            self._cpu.mem_write(address, given.bytes_of(index))
        addresses = [self._address(symbol, places) for symbol in given.symbols]
        for section in (each for each in given.sections if each.kind == RELOCATIONS and each.applies_to in places):
            for offset, kind, symbol, addend in given.relocations(section):
                self._relocate(places[section.applies_to] + offset, kind, addresses[symbol] + addend)
        named = zip(given.symbols, addresses, strict=True)
        self._functions.update((symbol.name, address) for symbol, address in named if symbol.section in places)
        self._code = _up(end, PAGE) + PAGE

    def _address(self, symbol: _Symbol, places: Mapping[int, int]) -> int:
        if symbol.section:
            return places.get(symbol.section, 0) + symbol.value
        return self._stubs.setdefault(symbol.name, STUBS + len(RETURN) * len(self._stubs))

    def _relocate(self, place: int, kind: int, target: int) -> None:
        """Write an address as a kind of relocation has it; the document is "ELF for the Arm 64-bit Architecture"."""
        if kind == ABS64:
            self._cpu.mem_write(place, struct.pack("<Q", target))
            return
        (word,) = struct.unpack("<I", self._cpu.mem_read(place, 4))
        if kind == PREL32:
            word = (target - place) & 0xFFFFFFFF
        elif kind in BRANCHES:
            word |= (target - place) >> 2 & 0x3FFFFFF
        elif kind == PAGE_HIGH:
            pages = (target // PAGE - place // PAGE) & 0x1FFFFF
            word |= (pages & 3) << 29 | (pages >> 2) << 5
        else:
            word |= (target % PAGE >> PAGE_LOW[kind]) << 10
        self._cpu.mem_write(place, struct.pack("<I", word))

    def _serve(self, cpu: Any, address: int, size: int, data: Any) -> None:
        """Do what a function of the C library does; its stub returns."""
        name = next(each for each, stub in self._stubs.items() if stub == address)
        if name not in MOVING:
            x = struct.pack("<I", cpu.reg_read(self._registers.UC_ARM64_REG_S0))
            result = struct.pack("<f", _mathematical(name)(*struct.unpack("<f", x)))
            cpu.reg_write(self._registers.UC_ARM64_REG_S0, *struct.unpack("<I", result))
            return
        target, source, count = (cpu.reg_read(self._registers.UC_ARM64_REG_X0 + index) for index in range(3))
        cpu.mem_write(target, bytes([source & 0xFF]) * count if name == "memset" else bytes(cpu.mem_read(source, count)))


ABS64, PREL32, PAGE_HIGH = 257, 261, 275
BRANCHES = (282, 283)
PAGE_LOW: Mapping[int, int] = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
"""Relocations of the low bits of an address, and by how much each shifts them."""

MOVING = ("memcpy", "memmove", "memset")
"""What kernels call beside functions of one f32."""


def _mathematical(name: str) -> Callable[[float], float]:
    """A function of one f32, by this machine's C library."""
    function: Any = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    return function


class _Section:
    def __init__(self, content: bytes, at: int) -> None:
        fields = struct.unpack_from("<IIQQQQIIQQ", content, at)
        _, self.kind, self.flags, _, self.offset, self.size, self.linked, self.applies_to, self.alignment, _ = fields


class _Symbol:
    def __init__(self, content: bytes, at: int, text: Callable[[int], str]) -> None:
        name, _, _, self.section, self.value, _ = struct.unpack_from("<IBBHQQ", content, at)
        self.name = text(name)


class _Object:
    """A relocatable ELF file of 64 bits, little end first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        (start,) = struct.unpack_from("<Q", content, 0x28)
        size, count = struct.unpack_from("<HH", content, 0x3A)
        self.sections = [_Section(content, start + index * size) for index in range(count)]
        table = next(each for each in self.sections if each.kind == SYMBOLS)
        names = self.sections[table.linked].offset

        def text(at: int) -> str:
            return content[names + at : content.index(b"\0", names + at)].decode()

        self.symbols = [_Symbol(content, table.offset + at, text) for at in range(0, table.size, 24)]

    def bytes_of(self, index: int) -> bytes:
        """What is in a section."""
        section = self.sections[index]
        return bytes(section.size) if section.kind == NO_BITS else self._content[section.offset :][: section.size]

    def relocations(self, section: _Section) -> Iterable[tuple[int, int, int, int]]:
        """Offset, kind, number of the symbol, and addend."""
        for offset, about, addend in struct.iter_unpack("<QQq", self._content[section.offset :][: section.size]):
            yield offset, about & 0xFFFFFFFF, about >> 32, addend


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
