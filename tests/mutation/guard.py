"""NumPy arrays between guard pages: native code that leaves one ends the process at once.

NumPy takes the functions that allocate its data from a handler (NEP 49). This one gives each array
pages of its own, with one behind it and one before it that may not be touched. An array ends where
its last page does, up to the 16 bytes to which NumPy wants it aligned; what was not written reads
as NaN.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

PAGE = mmap.PAGESIZE
ALIGNMENT = 16
SET_HANDLER = 304  # the place of PyDataMem_SetHandler in NumPy's table of C functions

_ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_REALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", _ALLOCATE),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_blocks: dict[int, tuple[int, int, int]] = {}
"""By the address that NumPy has: where the mapping begins, its length, and the array's bytes."""


def _map(size: int, fill: int) -> int | None:
    pages = -(-max(size, 1) // PAGE)
    length = (pages + 2) * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    begin = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if begin is None or begin == ctypes.c_void_p(-1).value:
        return None
    _libc.mprotect(begin, PAGE, 0)
    _libc.mprotect(begin + length - PAGE, PAGE, 0)
    address = int(begin + length - PAGE - size) & -ALIGNMENT
    if fill:
        ctypes.memset(address, fill, size)
    _blocks[address] = (begin, length, size)
    return address


def _malloc(context: int | None, size: int) -> int | None:
    return _map(size, 0xFF)


def _calloc(context: int | None, count: int, size: int) -> int | None:
    return _map(count * size, 0)


def _realloc(context: int | None, address: int | None, size: int) -> int | None:
    moved = _map(size, 0xFF)
    if moved is not None and address is not None:
        ctypes.memmove(moved, address, min(size, _blocks[address][2]))
        _unmap(address)
    return moved


def _free(context: int | None, address: int | None, size: int) -> None:
    if address is not None:
        _unmap(address)


def _unmap(address: int) -> None:
    begin, length, _ = _blocks.pop(address)
    _libc.munmap(begin, length)


_handler = _Handler(
    b"guard pages", 1, None, _ALLOCATE(_malloc), _CALLOC(_calloc), _REALLOC(_realloc), _FREE(_free)
)


@contextmanager
def guarded_arrays() -> Iterator[None]:
    """Put all arrays that this thread makes meanwhile between guard pages."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    table = api.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None)
    functions = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[SET_HANDLER])
    capsule = api.PyCapsule_New(ctypes.addressof(_handler), b"mem_handler", None)
    before = set_handler(capsule)
    try:
        found = _multiarray_umath.get_handler_name(np.empty(1))
        if found != "guard pages":
            raise RuntimeError(f"NumPy allocates with {found!r}; expected the guard pages")
        yield
    finally:
        set_handler(before)
