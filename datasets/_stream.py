"""Reads the two kinds of old data files that were written as Python pickles, without pickle.

The CIFAR batches and the object arrays in the IMDB and Reuters files are pickles. A pickle is a
program for a stack machine, and the general one can call any function. `decode` knows the few
instructions that those files consist of. It builds dicts, lists, tuples, numbers, texts and
NumPy arrays of plain numbers or of objects, and nothing else: names in the stream are looked up
in a closed table of five, each with a meaning that is written out here; nothing is imported by
name, and nothing found in the stream is called. The instruction set is described in
`pickletools` of the standard library.
"""

from __future__ import annotations

import re
import struct

import numpy as np


class FormatError(ValueError):
    """A data file that is damaged, or holds something that a data file should not."""


_MARK = object()


class _Name:
    """One of the names that a stream may use; it stands for itself and cannot be called."""

    def __init__(self, text):
        self.text = text


_RECONSTRUCT, _NDARRAY = _Name("_reconstruct"), _Name("ndarray")
_DTYPE, _ENCODE, _BYTES = _Name("dtype"), _Name("encode"), _Name("bytes")
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    # how Python 3 writes bytes for Python 2, and how it writes none
    ("_codecs", "encode"): _ENCODE,
    ("__builtin__", "bytes"): _BYTES,
}


class _DType:
    """A dtype under construction: first its letter and size, then its byte order."""

    def __init__(self, code):
        if not re.fullmatch(r"[biuf][1248]|O8?|O4", code):
            raise FormatError(f"an array of the dtype {ascii(code)}")
        self.code, self.order = code[0] if code[0] == "O" else code, "|"

    def dtype(self):
        return np.dtype(self.code if self.code == "O" else self.order.replace("|", "=") + self.code)


class _Array:
    """A place for an array whose contents come later in the stream."""

    def __init__(self):
        self.slots = []  # where the memo has it


def decode(data):
    """Decodes a pickle of plain data (protocols 2 … 4).

    Args:
        data: the bytes of the stream.

    Returns:
        The object: dicts, lists, tuples, numbers, texts, bytes, None and NumPy arrays. The
        strings of Python 2 come as bytes, but as text where they are keys of a dict.

    Raises:
        FormatError: for an unknown instruction or name, and for a stream that ends too early.
    """
    try:
        return _Machine(data).run()
    except FormatError:
        raise
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise FormatError(f"a damaged stream ({type(error).__name__}: {error})") from error
    except (ValueError, MemoryError, RecursionError) as error:
        raise FormatError(f"a damaged stream ({error})") from error


class _Machine:
    def __init__(self, data):
        self.data, self.position = bytes(data), 0
        self.stack, self.memo = [], {}

    def run(self):
        data, stack, steps = self.data, self.stack, _STEPS
        push = stack.append
        while True:
            # integers are nearly all of an IMDB file: a short way for them
            code = data[self.position]
            position = self.position + 1
            while True:
                if code == 0x4D:  # BININT2
                    push(data[position] | data[position + 1] << 8)
                    position += 2
                elif code == 0x4B:  # BININT1
                    push(data[position])
                    position += 1
                else:
                    break
                code = data[position]
                position += 1
            self.position = position
            if code == 0x2E:  # STOP
                (result,) = stack
                return result
            step = steps.get(code)
            if step is None:
                raise FormatError(
                    f"the instruction {bytes([code])!r}, which plain data do not need"
                )
            step(self)

    def take(self, count):
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise FormatError("a stream that ends too early")
        part = self.data[self.position : end]
        self.position = end
        return part

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self):
        end = self.data.index(b"\n", self.position)
        part = self.data[self.position : end]
        self.position = end + 1
        return part.decode("ascii")

    def since_mark(self):
        stack = self.stack
        index = len(stack) - 1
        while stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise FormatError("a damaged stream (no mark)")
        items = stack[index + 1 :]
        del stack[index:]
        return items

    def push(self, value):
        self.stack.append(value)

    def name(self, module, attribute):
        name = _NAMES.get((module, attribute))
        if name is None:
            raise FormatError(f"the name {ascii(f'{module}.{attribute}')}, which data do not need")
        self.push(name)

    def step_name(self):
        self.name(self.line(), self.line())

    def step_stack_name(self):
        attribute, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(attribute) is not str:
            raise FormatError("a name that is no text")
        self.name(module, attribute)

    def step_reduce(self):
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple:
            raise FormatError("a damaged stream (arguments)")
        if name is _RECONSTRUCT:
            if arguments[0] is not _NDARRAY or arguments[1] != (0,) or len(arguments) != 3:
                raise FormatError("an array of an unknown kind")
            self.push(_Array())
        elif name is _DTYPE:
            self.push(_DType(_as_text(arguments[0])))
        elif name is _ENCODE:
            text, encoding = arguments
            if type(text) is not str or encoding != "latin1":
                raise FormatError("a string in an unknown encoding")
            self.push(text.encode("latin-1"))
        elif name is _BYTES and arguments == ():
            self.push(b"")
        else:
            raise FormatError("a call")

    def step_build(self):
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _DType:
            order = _as_text(state[1])
            if order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
                raise FormatError("an array of structures")
            target.order = order
        elif type(target) is _Array:
            array = self.stack[-1] = _filled(*state)
            for slot in target.slots:
                self.memo[slot] = array
        else:
            raise FormatError("an object of an unknown kind")

    def step_append(self):
        value = self.stack.pop()
        _a_list(self.stack[-1]).append(value)

    def step_appends(self):
        items = self.since_mark()
        _a_list(self.stack[-1]).extend(items)

    def step_set(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, items):
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise FormatError("a damaged stream (dict)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is bytes:
                key = key.decode("ascii")
            if type(key) not in (str, int):
                raise FormatError("a key that is neither text nor number")
            target[key] = value

    def tuple_of(self, count):
        items = self.stack[-count:]
        if len(items) != count or any(item is _MARK for item in items):
            raise FormatError("a damaged stream (tuple)")
        self.stack[-count:] = [tuple(items)]

    def put(self, index):
        value = self.memo[index] = self.stack[-1]
        if type(value) is _Array:
            value.slots.append(index)

    def step_long(self, size):
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def step_protocol(self):
        if self.take(1)[0] > 4:
            raise FormatError("a newer protocol than data files use")


def _text(machine, size):
    machine.push(machine.take(size).decode("utf-8", "surrogatepass"))


_STEPS = {
    0x80: _Machine.step_protocol,
    0x95: lambda m: m.take(8),  # FRAME: a hint for readers of streams
    0x28: lambda m: m.push(_MARK),
    0x30: lambda m: m.stack.pop(),
    0x31: lambda m: m.since_mark(),
    0x4E: lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    0x4A: lambda m: m.push(m.number("<i")),
    0x8A: lambda m: m.step_long(m.number("<B")),
    0x47: lambda m: m.push(m.number(">d")),
    0x54: lambda m: m.push(m.take(m.number("<i"))),
    0x55: lambda m: m.push(m.take(m.number("<B"))),
    0x42: lambda m: m.push(m.take(m.number("<I"))),
    0x43: lambda m: m.push(m.take(m.number("<B"))),
    0x8E: lambda m: m.push(m.take(m.number("<Q"))),
    0x58: lambda m: _text(m, m.number("<I")),
    0x8C: lambda m: _text(m, m.number("<B")),
    0x5D: lambda m: m.push([]),
    0x61: _Machine.step_append,
    0x65: _Machine.step_appends,
    0x6C: lambda m: m.push(m.since_mark()),
    0x29: lambda m: m.push(()),
    0x74: lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x7D: lambda m: m.push({}),
    0x73: _Machine.step_set,
    0x75: lambda m: m.set_items(m.since_mark()),
    0x63: _Machine.step_name,
    0x93: _Machine.step_stack_name,
    0x52: _Machine.step_reduce,
    0x62: _Machine.step_build,
    0x71: lambda m: m.put(m.number("<B")),
    0x72: lambda m: m.put(m.number("<I")),
    0x68: lambda m: m.push(m.memo[m.number("<B")]),
    0x6A: lambda m: m.push(m.memo[m.number("<I")]),
    0x94: lambda m: m.put(len(m.memo)),
}


def _a_list(value):
    if type(value) is not list:
        raise FormatError("a damaged stream (list)")
    return value


def _as_text(value):
    return value.decode("ascii") if type(value) is bytes else value


def _filled(version, shape, dtype, fortran, contents):
    """An array from its state, whose size must be that of its contents."""
    if version != 1 or type(shape) is not tuple or type(dtype) is not _DType:
        raise FormatError("an array of an unknown kind")
    if any(type(n) is not int or n < 0 for n in shape):
        raise FormatError("an array with a bad shape")
    count = 1
    for n in shape:
        count *= n
    dtype = dtype.dtype()
    if dtype.hasobject:
        if type(contents) is not list or len(contents) != count:
            raise FormatError(f"an array of the shape {shape} with other contents")
        array = np.fromiter(contents, dtype=object, count=count)
    else:
        if type(contents) is not bytes or len(contents) != count * dtype.itemsize:
            raise FormatError(f"an array of the shape {shape} with other contents")
        array = np.frombuffer(contents, dtype=dtype)
    return array.reshape(shape, order="F" if fortran is True else "C")
