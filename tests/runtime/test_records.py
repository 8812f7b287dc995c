"""Records are the same to NumPy and to LLVM."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest

from prunus.kernels.layout import LINE
from prunus.runtime import walker
from prunus.runtime.records import Record


@pytest.mark.parametrize("record", walker.RECORDS, ids=lambda record: str(record.name))
def test_fields_lie_where_llvm_expects_them(record: Record) -> None:
    module = llvm.parse_assembly(f"{record.llvm}\n@one = global %{record.name} zeroinitializer\n")
    layout = llvm.create_target_data("e-m:e-i64:64-n8:16:32:64-S128")
    type = module.get_global_variable("one").global_value_type
    assert layout.get_abi_size(type) == record.nbytes == record.dtype.itemsize
    assert record.dtype.fields is not None
    for name, index in record.indices():
        _, offset = record.dtype.fields[name.removeprefix(f"{record.name}_")][:2]
        assert layout.get_element_offset(type, index) == offset, name


def test_what_workers_write_lies_in_lines_of_its_own() -> None:
    assert walker.POOL.dtype.fields is not None
    lines = {name: at // LINE for name, (_, at, *_) in walker.POOL.dtype.fields.items()}
    assert lines["workers"] == lines["spins"]
    assert len(set(lines.values())) == len(lines) - 1
    assert walker.CLAIM.nbytes == LINE


def test_zeros_begin_a_line_and_are_written_by_name() -> None:
    records = Record("Pair", first="i32", second="ptr").zeros(2, 3)
    assert (records.shape, records.dtype.itemsize, records.ctypes.data % LINE) == ((2, 3), 16, 0)
    records["second"][1, 2] = 7
    assert ctypes.cast(records.ctypes.data, ctypes.POINTER(ctypes.c_int64))[11] == 7
    assert int(np.count_nonzero(records.view(np.int64))) == 1
