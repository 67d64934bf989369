"""vkattn.h for Python: constants, structures and functions are read from the header itself.

    import vkattn
    with vkattn.Device() as device:
        output = device.attention(q, k, v, causal=True)

A thin layer: `lib` has the C functions, `c` the constants, and every structure is a class of its C name
whose struct_size is set. `Device` holds what a NumPy program needs most.

The library is found by VKATTN_LIBRARY (a path), or by the system's search; the header by VKATTN_HEADER, or in
../include beside the library.
"""

import ctypes
import ctypes.util
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

_library = os.environ.get("VKATTN_LIBRARY") or ctypes.util.find_library("vkattn") or "libvkattn.so.1"
_header = Path(
    os.environ.get("VKATTN_HEADER")
    or Path(_library).resolve().parent.parent / "include" / "vkattn.h"
)
_text = re.sub(r"/\*.*?\*/", "", _header.read_text(), flags=re.S)

c = SimpleNamespace()
_shifts = re.compile(r"\b(VKATTN_\w+) = (\d+)(?: << (\d+))?")
for _name, _value, _shift in _shifts.findall(_text):
    setattr(c, _name, int(_value) << int(_shift or 0))

_types = {
    "size_t": ctypes.c_size_t, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64,
    "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "float": ctypes.c_float,
    "double": ctypes.c_double, "char": ctypes.c_char,
}
for _name in re.findall(r"typedef int32_t (\w+);", _text):
    _types[_name] = ctypes.c_int32
for _name in re.findall(r"typedef struct \w+_handle \*(\w+);", _text):
    _types[_name] = ctypes.c_void_p
for _name in re.findall(r"typedef \w+ \(\*(\w+)\)", _text):
    _types[_name] = ctypes.c_void_p


class _Structure(ctypes.Structure):
    def __init__(self, **fields):
        super().__init__()
        if hasattr(self, "struct_size"):
            self.struct_size = ctypes.sizeof(self)
        self._kept = []
        for name, value in fields.items():
            self.set(name, value)

    def set(self, name, value):
        """A field; structures and lists of structures are pointed to and kept alive."""
        self._kept.append(value)
        if issubclass(dict(self._fields_)[name], ctypes.Array) and isinstance(value, (list, tuple)):
            getattr(self, name)[: len(value)] = value
            return
        if isinstance(value, (list, tuple)):
            value = (type(value[0]) * len(value))(*value)
            self._kept.append(value)
        if isinstance(value, (ctypes.Structure, ctypes.Array)):
            value = ctypes.addressof(value)
        elif isinstance(value, np.ndarray):
            value = value.ctypes.data
        elif isinstance(value, str):
            value = value.encode()
            self._kept.append(value)
            value = ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p).value
        setattr(self, name, value)


for _body, _name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", _text, flags=re.S):
    _fields = []
    for _declaration in _body.split(";"):
        _match = re.fullmatch(r"\s*(const )?(\w+) (\*?)(\w+)(?:\[(\d+)\])?\s*", _declaration)
        if not _match:
            continue
        _, _type, _pointer, _field, _count = _match.groups()
        _kind = ctypes.c_void_p if _pointer else _types[_type]
        _fields.append((_field, _kind * int(_count) if _count else _kind))
    _types[_name] = globals()[_name] = type(_name, (_Structure,), {"_fields_": _fields})

lib = ctypes.CDLL(_library)
lib.vkattn_last_error.restype = lib.vkattn_status_name.restype = ctypes.c_char_p
lib.vkattn_version.restype = ctypes.c_char_p


class Error(Exception):
    """A status other than VKATTN_OK, with the library's message."""

    def __init__(self, status):
        self.status = status
        name = lib.vkattn_status_name(status).decode()
        super().__init__(f"{name}: {lib.vkattn_last_error().decode()}")


def check(status):
    if status != 0:
        raise Error(status)


def call(name, *arguments):
    """A function of the header by its name without vkattn_; structures are passed by their address."""
    passed = []
    for argument in arguments:
        if isinstance(argument, (ctypes.Structure, ctypes.Array)):
            argument = ctypes.byref(argument)
        elif isinstance(argument, int):
            argument = ctypes.c_size_t(argument)
        elif isinstance(argument, np.ndarray):
            argument = ctypes.c_void_p(argument.ctypes.data)
        passed.append(argument)
    check(getattr(lib, "vkattn_" + name)(*passed))


def make(name, *arguments):
    """As `call`, for functions that give a handle in their last argument."""
    handle = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(handle))
    return handle


abi = int(re.search(r"#define VKATTN_ABI_VERSION (\d+)", _text).group(1))
if lib.vkattn_abi_version() != abi:
    raise ImportError(f"{_library} has ABI {lib.vkattn_abi_version()}, {_header} has {abi}")

element_types = {np.dtype(np.float32): c.VKATTN_F32, np.dtype(np.float16): c.VKATTN_F16}


class Buffer:
    """Device memory with the shape and type of an array."""

    def __init__(self, device, array):
        array = np.ascontiguousarray(array)
        self.shape, self.dtype = array.shape, array.dtype
        self.handle = make("buffer_create", device.handle, array.nbytes, 0, None)
        call("buffer_upload", self.handle, 0, array, array.nbytes)

    def get(self):
        array = np.empty(self.shape, self.dtype)
        call("buffer_download", self.handle, 0, array, array.nbytes)
        return array

    def __del__(self):
        lib.vkattn_buffer_free(self.handle)


def binding_array(tensors):
    """Bindings from a dictionary of tensor names (`query`, `key_cache`, …) and buffers."""
    bound = (vkattn_binding * len(tensors))()  # noqa: F821, read from the header
    for binding, (name, buffer) in zip(bound, tensors.items()):
        name, _, index = name.partition("__")
        binding.tensor = getattr(c, "VKATTN_TENSOR_" + name.upper())
        binding.index = int(index or 0)
        binding.buffer = buffer.handle
    return bound


class Kernel:
    """A request, planned and compiled; `more` is what a family takes beside it."""

    def __init__(self, device, family, request, *more):
        self.plan = make(f"{family}_plan_create", device.handle, request, *more)
        self.handle = make("kernel_create", self.plan)

    def __call__(self, **tensors):
        bound = binding_array(tensors)
        call("kernel_run", self.handle, bound, len(bound), None, None)

    def decode(self, lengths, shared=None, indptr=None, indices=None, **tensors):
        """One layer of a decode step; `shared` are the step's own tensors."""
        lengths = np.ascontiguousarray(lengths, np.int32)
        common = binding_array(shared or {})
        info = vkattn_step_info(  # noqa: F821
            lengths=lengths, length_count=len(lengths), bindings=common, binding_count=len(common))
        if indptr is not None:
            info.set("page_indptr", np.ascontiguousarray(indptr, np.int32))
            info.set("page_indices", np.ascontiguousarray(indices, np.int32))
            info.page_index_count = len(indices)
        bound = binding_array(tensors)
        call("decode_run", self.handle, info, bound, len(bound))

    def describe(self):
        length = ctypes.c_size_t()
        call("plan_describe", self.plan, None, 0, ctypes.byref(length))
        text = ctypes.create_string_buffer(length.value + 1)
        call("plan_describe", self.plan, text, len(text), None)
        return text.value.decode()

    def __del__(self):
        for kind in ("kernel", "plan"):
            handle = getattr(self, "handle" if kind == "kernel" else "plan", None)
            if handle:
                getattr(lib, f"vkattn_{kind}_free")(handle)


class Device:
    """An open device."""

    def __init__(self, selection="best"):
        self.handle = make("device_open", vkattn_device_options(selection=selection))  # noqa: F821

    def __enter__(self):
        return self

    def __exit__(self, *_):
        check(lib.vkattn_device_free(self.handle))

    @property
    def name(self):
        info = vkattn_device_info()  # noqa: F821
        call("device_get_info", self.handle, info)
        return info.name.decode()

    def buffer(self, array):
        return Buffer(self, array)

    def attention(self, q, k, v, causal=False):
        """Softmax attention of arrays [B, S, H, D], [B, T, G, D] and [B, T, G, E]."""
        mask = vkattn_mask(flags=c.VKATTN_MASK_CAUSAL if causal else 0)  # noqa: F821
        request = vkattn_attention_request(  # noqa: F821
            batch_size=q.shape[0], query_tokens=q.shape[1], key_tokens=k.shape[1],
            query_heads=q.shape[2], key_heads=k.shape[2], head_size=q.shape[3],
            value_head_size=v.shape[3], element_type=element_types[q.dtype],
            key_type=element_types[k.dtype], value_type=element_types[v.dtype], mask=mask)
        output = self.buffer(np.full((*q.shape[:3], v.shape[3]), np.nan, q.dtype))
        Kernel(self, "attention", request)(
            query=self.buffer(q), key=self.buffer(k), value=self.buffer(v), output=output)
        return output.get()
