"""KernelSpec → LLVM IR → machine code. Start with `layout.py`, then `row_stream.py`."""
