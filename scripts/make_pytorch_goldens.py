#!/usr/bin/env python3
"""Writes files in the format of torch.save under tests/data/weights/pytorch, without torch: Python's own pickler on
stand-ins for torch's classes, which gives the opcodes that torch.save gives, and a zip writer that lays members out as
torch's does. The C++ tests compare tensors with expected.json and change the files byte by byte.

  model/pytorch_model.bin   each dtype, a shared storage, a view, a parameter, a scalar, an empty tensor, _metadata
  zip/pytorch_model.bin     the same by Python's zipfile: no zip64, no padding
  zip64/pytorch_model.bin   the same with all sizes and offsets in zip64 fields, as torch writes beyond 4 GiB
  sharded/                  two shards and their index
  refused/*.bin             one reason to refuse each: the file's name
  expected.json             {name: [dtype, shape, hexadecimal bytes]} of model/ and of sharded/
"""
import collections
import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import sys
import types
import zipfile

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "weights" / "pytorch"
# dtype: (class of the storage, bytes of an element)
STORAGES = {
    "F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2), "BF16": ("BFloat16Storage", 2), "F64": ("DoubleStorage", 8),
    "I64": ("LongStorage", 8), "I32": ("IntStorage", 4), "I16": ("ShortStorage", 2), "I8": ("CharStorage", 1),
    "U8": ("ByteStorage", 1), "BOOL": ("BoolStorage", 1)}


def stand_in(module, name, kind=type):
    """An empty class or function that pickles as module.name."""
    holder = sys.modules.setdefault(module, types.ModuleType(module))
    value = type(name, (), {}) if kind is type else types.FunctionType((lambda *args: None).__code__, {}, name)
    value.__module__, value.__qualname__ = module, name
    setattr(holder, name, value)
    return value


CLASSES = {dtype: stand_in("torch", name) for dtype, (name, _) in STORAGES.items()}
UNTYPED = stand_in("torch.storage", "UntypedStorage")
REBUILD_TENSOR = stand_in("torch._utils", "_rebuild_tensor_v2", types.FunctionType)
REBUILD_PARAMETER = stand_in("torch._utils", "_rebuild_parameter", types.FunctionType)
REBUILD_TENSOR_V3 = stand_in("torch._utils", "_rebuild_tensor_v3", types.FunctionType)


class Storage:
    def __init__(self, dtype, data, storage_class=None):
        self.dtype, self.data, self.size = dtype, data, len(data) // STORAGES[dtype][1]
        self.storage_class = storage_class or CLASSES[dtype]


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Tensor(Call):
    def __init__(self, storage, shape, offset=0, strides=None, function=REBUILD_TENSOR, more=()):
        if strides is None:
            strides, step = [], 1
            for extent in reversed(shape):
                strides.insert(0, step)
                step *= extent
        super().__init__(function, storage, offset, tuple(shape), tuple(strides), False, collections.OrderedDict(), *more)
        self.storage, self.offset, self.shape = storage, offset, shape

    def expected(self):
        size = STORAGES[self.storage.dtype][1]
        count = 1
        for extent in self.shape:
            count *= extent
        data = self.storage.data[self.offset * size:(self.offset + count) * size]
        return [self.storage.dtype, list(self.shape), data.hex()]


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol=2):
        super().__init__(file, protocol)
        self.keys, self.storages = {}, []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if id(value) not in self.keys:
            self.keys[id(value)] = str(len(self.storages))
            self.storages.append(value)
        return ("storage", value.storage_class, self.keys[id(value)], "cpu", value.size)


def members_of(state, protocol=2, byte_order=b"little"):
    text = io.BytesIO()
    pickler = Pickler(text, protocol)
    pickler.dump(state)
    members = [("data.pkl", text.getvalue()), ("byteorder", byte_order)]
    members += [(f"data/{key}", storage.data) for key, storage in enumerate(pickler.storages)]
    return members + [("version", b"3\n")]


def torch_zip(members, prefix="archive", is_large=False):
    """As torch's writer: sizes behind the data, data on multiples of 64 bytes, zip64 records at the end. is_large: as
    beyond 4 GiB."""
    out, directory = b"", b""
    for name, data in members:
        name = f"{prefix}/{name}".encode()
        crc = zipfile.crc32(data)
        padding = -(len(out) + 30 + len(name) + 4) % 64
        extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        begin = len(out)
        out += struct.pack("<4s5H3L2H", b"PK\3\4", 0, 0x0808, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra + data
        out += struct.pack("<4s3L", b"PK\7\b", crc, len(data), len(data))
        numbers = (len(data), len(data), begin)
        field = struct.pack("<2H3Q", 1, 24, *numbers) if is_large else b""
        size, stored_size, begin = [0xffffffff] * 3 if is_large else numbers
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0, 0, 0x0808, 0, 0, 0, crc, stored_size, size, len(name),
                                 len(field), 0, 0, 0, 0, begin) + name + field
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(members), len(members), len(directory), len(out))
    end += struct.pack("<4sLQL", b"PK\6\7", 0, len(out) + len(directory), 1)
    end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory),
                       0xffffffff if is_large else len(out), 0)
    return out + directory + end


def plain_zip(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(f"pytorch_model/{name}"), data, compression)
    return out.getvalue()


def floats(*values):
    return Storage("F32", struct.pack(f"<{len(values)}f", *values))


def model_state():
    shared = floats(*[i + 0.5 for i in range(12)])
    state = collections.OrderedDict()
    state["embed.weight"] = Tensor(shared, [3, 4])
    state["head.weight"] = Tensor(shared, [3, 4])
    state["view"] = Tensor(shared, [2, 2], offset=5)
    state["row"] = Tensor(shared, [1, 3], offset=2, strides=[99, 1])
    state["f16"] = Tensor(Storage("F16", struct.pack("<3e", 1, -2, 0.5)), [3])
    state["bf16"] = Tensor(Storage("BF16", struct.pack("<2H", 0x3f80, 0x4000)), [1, 2])
    state["parameter"] = Call(REBUILD_PARAMETER, Tensor(floats(7, 8), [2]), True, collections.OrderedDict())
    state["scalar"] = Tensor(floats(3), [])
    state["empty"] = Tensor(Storage("F32", b""), [0, 4])
    state["untyped"] = Tensor(Storage("U8", b"xyz", UNTYPED), [3])
    for dtype in ["F64", "I64", "I32", "I16", "I8", "U8", "BOOL"]:
        state[dtype] = Tensor(Storage(dtype, bytes(range(2 * STORAGES[dtype][1]))), [2])
    state._metadata = collections.OrderedDict([("", {"version": 1}), ("layer", {"version": 2, "local": None, "x": [1.5]})])
    return state


def expected_of(state):
    return {name: (value.arguments[0] if not isinstance(value, Tensor) else value).expected()
            for name, value in state.items()}


def refused():
    """{name: bytes of a file}."""
    good = {"a": Tensor(floats(1, 2, 3, 4), [2, 2])}
    states = {
        "os_system": {"a": Call(os.system, "true")},
        "builtins_eval": {"a": Call(eval, "1")},
        "hooks": {"a": Tensor(floats(1), [1], more=(Call(print, "x"),))},
        "rebuild_tensor_v3": {"a": Tensor(floats(1), [1], function=REBUILD_TENSOR_V3)},
        "metadata_of_tensor": {"a": Tensor(floats(1), [1], more=({"conj": True},))},
        "call_of_storage": {"a": Call(CLASSES["F32"], 1)},
        "transposed": {"a": Tensor(floats(1, 2, 3, 4), [2, 2], strides=[1, 2])},
        "expanded": {"a": Tensor(floats(1), [4], strides=[0])},
        "beyond_storage": {"a": Tensor(floats(1, 2, 3, 4), [2, 2], offset=1)},
        "negative_offset": {"a": Tensor(floats(1, 2, 3, 4), [2], offset=-1)},
        "huge_shape": {"a": Tensor(floats(1), [2**62, 2**62])},
        "nested": {"state_dict": good, "epoch": 3},
        "list": [good["a"]],
        "number_as_key": {1: good["a"]},
    }
    files = {name: torch_zip(members_of(state)) for name, state in states.items()}
    files["protocol_4"] = torch_zip(members_of(good, protocol=4))
    files["big_endian"] = torch_zip(members_of(good, byte_order=b"big"))
    files["compressed"] = plain_zip(members_of(good), zipfile.ZIP_DEFLATED)
    files["no_storage"] = torch_zip([m for m in members_of(good) if m[0] != "data/0"])
    files["short_storage"] = torch_zip([(n, d[:-4] if n == "data/0" else d) for n, d in members_of(good)])
    files["no_pickle"] = torch_zip(members_of(good)[1:])
    files["two_pickles"] = torch_zip(members_of(good) + [("x/data.pkl", members_of(good)[0][1])])
    files["twice"] = torch_zip(members_of(good) + [("data/0", b"0" * 16)])
    files["torchscript"] = torch_zip(members_of(good) + [("constants.pkl", b"x")])
    files["legacy"] = pickle.dumps(0x1950a86a20f9469cfc6c, protocol=2) + pickle.dumps(1001, protocol=2)
    return files


def main():
    shutil.rmtree(DATA, ignore_errors=True)
    for folder in ["model", "zip", "zip64", "sharded", "refused"]:
        (DATA / folder).mkdir(parents=True)
    members = members_of(model_state())
    (DATA / "model" / "pytorch_model.bin").write_bytes(torch_zip(members))
    (DATA / "zip" / "pytorch_model.bin").write_bytes(plain_zip(members))
    (DATA / "zip64" / "pytorch_model.bin").write_bytes(torch_zip(members, is_large=True))

    shards = [{"a": Tensor(floats(1, 2, 3, 4), [2, 2]), "b": Tensor(Storage("BF16", b"\x80\x3f"), [1])},
              {"c": Tensor(Storage("F16", struct.pack("<2e", 1, 2)), [2])}]
    index = {"metadata": {"total_size": 22}, "weight_map": {}}
    for number, state in enumerate(shards, 1):
        name = f"pytorch_model-{number:05}-of-{len(shards):05}.bin"
        (DATA / "sharded" / name).write_bytes(torch_zip(members_of(state)))
        index["weight_map"].update(dict.fromkeys(state, name))
    (DATA / "sharded" / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    for name, data in refused().items():
        (DATA / "refused" / f"{name}.bin").write_bytes(data)
    expected = {"model": expected_of(model_state()), "sharded": expected_of({**shards[0], **shards[1]})}
    (DATA / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
