"""Check that interpreted Triton kernels access only the tensors that they are given."""

from contextlib import ExitStack, contextmanager
from typing import Iterator, List, Tuple
from unittest import mock

import torch
from triton.runtime import interpreter


@contextmanager
def bounds_checked() -> Iterator[None]:
    """A block in which kernels that access memory outside their tensors raise IndexError.

    On a GPU that may be an illegal access or, worse, nothing: no result shows what a mask discards.
    """
    ranges: List[Tuple[int, int]] = []
    run = interpreter.InterpretedFunction.run
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store

    def recording(self, *args, **kwargs):
        storages = [a.untyped_storage() for a in args if isinstance(a, torch.Tensor)]
        ranges[:] = [(s.data_ptr(), s.data_ptr() + s.nbytes()) for s in storages]
        return run(self, *args, **kwargs)

    def check(pointers, mask) -> None:
        inside = ~mask.data.astype(bool)
        for first, end in ranges:
            inside |= (pointers.data >= first) & (pointers.data < end)
        if not inside.all():
            raise IndexError('a kernel reads or writes outside its tensors')

    def checked_load(self, pointers, mask, *args):
        check(pointers, mask)
        return load(self, pointers, mask, *args)

    def checked_store(self, pointers, value, mask, *args):
        check(pointers, mask)
        return store(self, pointers, value, mask, *args)

    with ExitStack() as stack:
        for target, name, function in (
                (interpreter.InterpretedFunction, 'run', recording),
                (builder, 'create_masked_load', checked_load),
                (builder, 'create_masked_store', checked_store)):
            stack.enter_context(mock.patch.object(target, name, function))
        yield
