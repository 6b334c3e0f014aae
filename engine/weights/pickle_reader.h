// Reads a pickle of protocol 2 as data. Nothing is imported, called or built.
//
// A pickle is a program; Python runs it, and it may call anything. Here a global is only a name
// that must be on the caller's list, a call stays a value that says which name was called with
// what, and every opcode that torch.save does not need for a state dict is refused by name. Work
// and memory are linear in the pickle's bytes and bounded; no value is walked by recursion. Source:
// CPython, Lib/pickletools.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

enum class PickleKind {
  kNone,
  kBool,
  kInteger,
  kFloat,  // its value is not kept
  kString,
  kTuple,
  kList,
  kDict,
  kGlobal,
  kPersistent,  // what the writer keeps elsewhere: a storage
  kCall,
};

// "a tuple", for messages.
const char* to_string(PickleKind kind);

// What may be done with a global.
enum class PickleUse {
  kName,  // named only
  kCall,  // called: a value kCall
  kDict,  // called without arguments: an empty dictionary
};

struct PickleGlobal {
  std::string_view module;
  std::string_view name;
  PickleUse use = PickleUse::kName;
};

using PickleIndex = std::uint32_t;  // into Pickle::values

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::uint64_t offset = 0;  // in the file, of the opcode that made it
  std::int64_t integer = 0;  // kBool, kInteger; kGlobal: its index in the list of globals
  std::string_view text{};   // kString: UTF-8, in the pickle's bytes
  // kTuple, kList: the elements; kDict: key, value, key, value, ..; kPersistent: the id;
  // kCall: the global and the tuple of arguments. A value may hold itself.
  std::vector<PickleIndex> items{};
};

struct Pickle {
  std::vector<PickleValue> values;
  PickleIndex root = 0;
};

// `bytes` must outlive the result. `offset` is where they begin in `file`, for messages. Throws
// Error(kModel) that names the file, the offset, and what was refused.
Pickle read_pickle(std::string_view bytes, const std::string& file, std::uint64_t offset,
                   std::span<const PickleGlobal> globals);

}  // namespace llmrun
