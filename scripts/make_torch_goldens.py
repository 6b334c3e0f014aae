#!/usr/bin/env python3
"""Writes files with torch.save itself under tests/data/weights/torch; the C++ tests read them.

  pytorch_model.bin   the state dict of tests/data/models/llama_linear as its model gives it: the head is
                      tied to the embedding, so both are views of one storage
  types.bin           a tensor of each type, a view, a parameter, a scalar, an empty tensor
  legacy.bin          the same as torch before 1.6 wrote it, which is refused
  transposed.bin      a tensor that is not row-major, which is refused
  expected.json       {name: [dtype, shape, hexadecimal bytes]} of types.bin

Needs torch and safetensors.
"""
import collections
import json
import pathlib

import torch
from safetensors.torch import load_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
         "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
         "U8": torch.uint8, "BOOL": torch.bool}


def model_state():
    """As state_dict(): an ordered dictionary with versions of modules behind it."""
    state = collections.OrderedDict(load_file(DATA / "models" / "llama_linear" / "model.safetensors"))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


def types_state():
    state = {name: torch.arange(5).to(dtype) for name, dtype in TYPES.items()}
    matrix = torch.arange(12.0).reshape(3, 4)
    state["view"] = matrix[1:]
    state["parameter"] = torch.nn.Parameter(matrix[0] / 3)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 4)
    return state


def main():
    folder = DATA / "weights" / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model_state(), folder / "pytorch_model.bin")
    torch.save(types_state(), folder / "types.bin")
    torch.save(types_state(), folder / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.arange(6.0).reshape(2, 3).t()}, folder / "transposed.bin")
    names = {dtype: name for name, dtype in TYPES.items()}
    expected = {name: [names[value.dtype], list(value.shape),
                       bytes(value.detach().contiguous().flatten().view(torch.uint8).tolist()).hex()
                       if value.numel() else ""]
                for name, value in types_state().items()}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
