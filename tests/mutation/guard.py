"""NumPy arrays between guard pages: native code that leaves one ends the process at once.

NumPy takes the functions that allocate its data from a handler (NEP 49). This one gives each array
pages of its own, with one before and one behind it that may not be touched. An array ends where its
last page does, up to the 16 bytes to which NumPy wants it aligned; what was not written reads as
NaN. The functions are machine code: NumPy also frees arrays while an exception is on its way, which
a callback into Python would lose.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

PAGE = mmap.PAGESIZE
SET_HANDLER = 304  # the place of PyDataMem_SetHandler in NumPy's table of C functions

# [header page: length of the mapping, bytes of the array][guard page][array's pages][guard page]
ALLOCATOR = f"""
declare i8* @mmap(i8*, i64, i32, i32, i32, i64)
declare i32 @mprotect(i8*, i64, i32)
declare i32 @munmap(i8*, i64)
declare i8* @memset(i8*, i32, i64)
declare i8* @memcpy(i8*, i8*, i64)

define i8* @map(i64 %size, i32 %fill) {{
  %more = add i64 %size, {PAGE - 1}
  %rounded = and i64 %more, {-PAGE}
  %none = icmp eq i64 %rounded, 0
  %inside = select i1 %none, i64 {PAGE}, i64 %rounded
  %length = add i64 %inside, {3 * PAGE}
  %begin = call i8* @mmap(i8* null, i64 %length, i32 {mmap.PROT_READ | mmap.PROT_WRITE},
                          i32 {mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}, i32 -1, i64 0)
  %address = ptrtoint i8* %begin to i64
  %failed = icmp eq i64 %address, -1
  br i1 %failed, label %full, label %mapped
full:
  ret i8* null
mapped:
  %lengths = bitcast i8* %begin to i64*
  store i64 %length, i64* %lengths
  %sizes = getelementptr i64, i64* %lengths, i64 1
  store i64 %size, i64* %sizes
  %before = getelementptr i8, i8* %begin, i64 {PAGE}
  call i32 @mprotect(i8* %before, i64 {PAGE}, i32 0)
  %last = sub i64 %length, {PAGE}
  %behind = getelementptr i8, i8* %begin, i64 %last
  call i32 @mprotect(i8* %behind, i64 {PAGE}, i32 0)
  %end = ptrtoint i8* %behind to i64
  %start = sub i64 %end, %size
  %aligned = and i64 %start, -16
  %array = inttoptr i64 %aligned to i8*
  %filled = call i8* @memset(i8* %array, i32 %fill, i64 %size)
  ret i8* %array
}}

define i64* @header(i8* %array) {{
  %address = ptrtoint i8* %array to i64
  %page = and i64 %address, {-PAGE}
  %begin = sub i64 %page, {2 * PAGE}
  %header = inttoptr i64 %begin to i64*
  ret i64* %header
}}

define i8* @malloc_guarded(i8* %context, i64 %size) {{
  %array = call i8* @map(i64 %size, i32 255)
  ret i8* %array
}}

define i8* @calloc_guarded(i8* %context, i64 %count, i64 %each) {{
  %size = mul i64 %count, %each
  %array = call i8* @map(i64 %size, i32 0)
  ret i8* %array
}}

define void @free_guarded(i8* %context, i8* %array, i64 %size) {{
  %none = icmp eq i8* %array, null
  br i1 %none, label %done, label %unmap
unmap:
  %header = call i64* @header(i8* %array)
  %length = load i64, i64* %header
  %begin = bitcast i64* %header to i8*
  call i32 @munmap(i8* %begin, i64 %length)
  br label %done
done:
  ret void
}}

define i8* @realloc_guarded(i8* %context, i8* %array, i64 %size) {{
  %moved = call i8* @map(i64 %size, i32 255)
  %failed = icmp eq i8* %moved, null
  %none = icmp eq i8* %array, null
  %nothing = or i1 %failed, %none
  br i1 %nothing, label %done, label %copy
copy:
  %header = call i64* @header(i8* %array)
  %sizes = getelementptr i64, i64* %header, i64 1
  %old = load i64, i64* %sizes
  %shrinks = icmp ult i64 %size, %old
  %kept = select i1 %shrinks, i64 %size, i64 %old
  %copied = call i8* @memcpy(i8* %moved, i8* %array, i64 %kept)
  call void @free_guarded(i8* null, i8* %array, i64 %old)
  br label %done
done:
  ret i8* %moved
}}
"""


class _Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


@cache
def _handler() -> tuple[_Handler, Any]:
    """NumPy's view of the allocator, and what keeps its code alive."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(ALLOCATOR), machine)
    engine.finalize_object()
    names = ("malloc_guarded", "calloc_guarded", "realloc_guarded", "free_guarded")
    addresses = [engine.get_function_address(name) for name in names]
    return _Handler(b"guard pages", 1, None, *addresses), engine


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
    capsule = api.PyCapsule_New(ctypes.addressof(_handler()[0]), b"mem_handler", None)
    before = set_handler(capsule)
    try:
        found = _multiarray_umath.get_handler_name(np.empty(1))
        if found != "guard pages":
            raise RuntimeError(f"NumPy allocates with {found!r}; expected the guard pages")
        yield
    finally:
        set_handler(before)
