"""Memory that processes share, without a name and without /dev/shm.

What: a `Block` is anonymous memory behind a descriptor, which another process maps when it gets that descriptor.
When: large batches that worker processes read or decode, and the epoch that is due.
How: `memfd_create`, whose memory is limited by nothing but the machine's (containers have 64 MB of /dev/shm, and a
writer that finds it full is killed); where a sandbox forbids that, an unlinked temporary file. A mapping keeps no
descriptor open, so batches that are kept do not add up to the limit of open files.
Cost: 20 µs, and the kernel's clearing of the pages.
"""

import contextlib
import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any, Self

import torch
from torch import Tensor


class Block:
    """Some bytes of shared memory.

    Attributes:
        tensor: uint8 [size], the memory itself; it lives as long as any view of it.
    """

    tensor: Tensor

    def __init__(self, size: int) -> None:
        """Make new memory, full of zeros.

        Args:
            size: bytes, at least 1.

        Raises:
            OSError: neither memory nor a temporary file is to be had.
        """
        self._descriptor: int | None = _anonymous(size)
        self.tensor = _mapped(self._descriptor, size)

    @classmethod
    def received(cls, descriptor: int, size: int) -> Self:
        """The memory behind a descriptor, which is closed."""
        made = cls.__new__(cls)
        made._descriptor = None
        try:
            made.tensor = _mapped(descriptor, size)
        finally:
            os.close(descriptor)
        return made

    def descriptor(self) -> int:
        """A descriptor of the memory, good for as long as the block lives. A block that was received is copied."""
        if self._descriptor is None:
            copy = Block(len(self.tensor))
            copy.tensor.copy_(self.tensor)
            self._descriptor, copy._descriptor = copy._descriptor, None
            self.tensor = copy.tensor
        assert self._descriptor is not None
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; the memory stays while anybody uses it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # the constructor may have failed; the process may be ending
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_value, (self.tensor.numpy(),)  # into a file, say; between processes see below


class SharedNumber:
    """A whole number that the processes which were handed it share; where no memory can be, each has its own."""

    def __init__(self) -> None:
        self._block = block_or_none(8)
        self._alone = 0

    def get(self) -> int:
        """The number; 0 at first."""
        return self._alone if self._block is None else int(self._block.tensor.view(torch.int64))

    def set(self, number: int) -> None:
        """Make it another one, of 64 bits."""
        self._alone = number
        if self._block is not None:
            self._block.tensor.view(torch.int64).fill_(number)


def block_or_none(size: int) -> Block | None:
    """New memory, or None where there is none to be had: what was to be shared is then copied through a pipe."""
    try:
        return Block(size)
    except OSError:
        return None


def _anonymous(size: int) -> int:
    try:
        made = os.memfd_create("tamis", os.MFD_CLOEXEC)
        try:
            os.ftruncate(made, size)
        except OSError:
            os.close(made)
            raise
        return made
    except OSError:
        pass  # a sandbox that forbids it, or a limit on the size of files
    with tempfile.TemporaryFile(prefix="tamis-") as file:
        os.posix_fallocate(
            file.fileno(), 0, size
        )  # a full disk says so here, and not by a signal when it is written to
        return os.dup(file.fileno())


def _mapped(descriptor: int, size: int) -> Tensor:
    try:
        return torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=size, dtype=torch.uint8)
    except RuntimeError:  # no /proc; this way the mapping keeps a descriptor of its own
        return torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)


def _by_value(data: Any) -> Block:
    made = Block(len(data))
    made.tensor.copy_(torch.from_numpy(data))
    return made


def _by_descriptor(handed: Any, size: int) -> Block:
    return Block.received(handed.detach(), size)


def _reduce(block: Block) -> tuple[Any, ...]:
    return _by_descriptor, (reduction.DupFd(block.descriptor()), len(block.tensor))


reduction.register(Block, _reduce)
