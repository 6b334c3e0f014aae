#include "engine/weights/pickle_reader.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

// A tensor takes about 20 values; torch.save writes dictionaries in lots of 1000.
constexpr std::size_t kMaxValues = std::size_t{1} << 21;
constexpr std::size_t kMaxStack = std::size_t{1} << 16;
constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxMemo = kMaxValues;
constexpr std::size_t kMaxNameBytes = 256;

struct Opcode {
  unsigned char code;
  std::string_view name;
};

// Opcodes that are refused, by name.
constexpr std::array kRefused = {
    Opcode{'0', "POP"},
    Opcode{'1', "POP_MARK"},
    Opcode{'2', "DUP"},
    Opcode{'F', "FLOAT"},
    Opcode{'I', "INT"},
    Opcode{'L', "LONG"},
    Opcode{'P', "PERSID"},
    Opcode{'S', "STRING"},
    Opcode{'T', "BINSTRING"},
    Opcode{'U', "SHORT_BINSTRING"},
    Opcode{'V', "UNICODE"},
    Opcode{'d', "DICT"},
    Opcode{'g', "GET"},
    Opcode{'i', "INST"},
    Opcode{'l', "LIST"},
    Opcode{'o', "OBJ"},
    Opcode{'p', "PUT"},
    Opcode{'B', "BINBYTES"},
    Opcode{'C', "SHORT_BINBYTES"},
    Opcode{0x80, "PROTO"},
    Opcode{0x81, "NEWOBJ"},
    Opcode{0x82, "EXT1"},
    Opcode{0x83, "EXT2"},
    Opcode{0x84, "EXT4"},
    Opcode{0x8b, "LONG4"},
    Opcode{0x8c, "SHORT_BINUNICODE"},
    Opcode{0x8d, "BINUNICODE8"},
    Opcode{0x8e, "BINBYTES8"},
    Opcode{0x8f, "EMPTY_SET"},
    Opcode{0x90, "ADDITEMS"},
    Opcode{0x91, "FROZENSET"},
    Opcode{0x92, "NEWOBJ_EX"},
    Opcode{0x93, "STACK_GLOBAL"},
    Opcode{0x94, "MEMOIZE"},
    Opcode{0x95, "FRAME"},
    Opcode{0x96, "BYTEARRAY8"},
    Opcode{0x97, "NEXT_BUFFER"},
    Opcode{0x98, "READONLY_BUFFER"},
};

class Machine {
 public:
  Machine(std::string_view bytes, const std::string& file, std::uint64_t offset,
          std::span<const PickleGlobal> globals)
      : bytes_(bytes), file_(file), offset_(offset), globals_(globals) {}

  Pickle run() {
    if (take(1)[0] != '\x80') fail("not a pickle of protocol 2");
    const std::uint64_t protocol = take_unsigned(1);
    if (protocol != 2) fail(fmt::format("a pickle of protocol {}; torch.save writes 2", protocol));
    bool is_done = false;
    while (!is_done) {
      opcode_at_ = at_;
      is_done = step(static_cast<unsigned char>(take(1)[0]));
    }
    if (stack_.size() != 1 || !marks_.empty()) fail("STOP with values left on the stack");
    if (at_ != bytes_.size()) {
      fail(fmt::format("{} bytes follow the end of the pickle", bytes_.size() - at_));
    }
    pickle_.root = stack_.back();
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: offset {} (pickle): {}", file_, offset_ + opcode_at_, what));
  }

  // True at the end.
  bool step(unsigned char code) {
    switch (code) {
      case '.': return true;
      case '(': mark(); break;
      case ')': push({.kind = PickleKind::kTuple}); break;
      case ']': push({.kind = PickleKind::kList}); break;
      case '}': push({.kind = PickleKind::kDict}); break;
      case 'N': push({.kind = PickleKind::kNone}); break;
      case 0x88: push({.kind = PickleKind::kBool, .integer = 1}); break;
      case 0x89: push({.kind = PickleKind::kBool, .integer = 0}); break;
      case 'K': push_integer(static_cast<std::int64_t>(take_unsigned(1))); break;
      case 'M': push_integer(static_cast<std::int64_t>(take_unsigned(2))); break;
      case 'J': push_integer(take_signed(4)); break;
      case 0x8a: long1(); break;
      case 'G': take(8), push({.kind = PickleKind::kFloat}); break;
      case 'X': string(); break;
      case 't': push_tuple(pop_to_mark()); break;
      case 0x85: push_tuple(pop_last(1)); break;
      case 0x86: push_tuple(pop_last(2)); break;
      case 0x87: push_tuple(pop_last(3)); break;
      case 'q': put(take_unsigned(1)); break;
      case 'r': put(take_unsigned(4)); break;
      case 'h': get(take_unsigned(1)); break;
      case 'j': get(take_unsigned(4)); break;
      case 'c': global(); break;
      case 'Q': push({.kind = PickleKind::kPersistent, .items = {pop()}}); break;
      case 'R': reduce(); break;
      case 'b': build(); break;
      case 's': append(pop_last(2), PickleKind::kDict, "SETITEM"); break;
      case 'u': append(pop_to_mark(), PickleKind::kDict, "SETITEMS"); break;
      case 'a': append(pop_last(1), PickleKind::kList, "APPEND"); break;
      case 'e': append(pop_to_mark(), PickleKind::kList, "APPENDS"); break;
      default: refuse(code);
    }
    return false;
  }

  [[noreturn]] void refuse(unsigned char code) const {
    const auto* opcode = std::find_if(kRefused.begin(), kRefused.end(),
                                      [&](const Opcode& known) { return known.code == code; });
    if (opcode == kRefused.end()) fail(fmt::format("unknown opcode {:#04x}", code));
    fail(fmt::format("opcode {} is not allowed: a state dict does not need it", opcode->name));
  }

  std::string_view take(std::size_t size) {
    if (size > bytes_.size() - at_) fail("the pickle is cut");
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  std::uint64_t take_unsigned(std::size_t size) {
    const std::string_view bytes = take(size);
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) {
      value = (value << 8) | static_cast<unsigned char>(bytes[i]);
    }
    return value;
  }
  // Two's complement, 0 to 8 bytes.
  std::int64_t take_signed(std::size_t size) {
    std::uint64_t value = take_unsigned(size);
    if (size > 0 && size < 8 && (value >> (8 * size - 1)) != 0)
      value |= ~std::uint64_t{0} << 8 * size;
    return static_cast<std::int64_t>(value);
  }

  void push_index(PickleIndex index) {
    if (stack_.size() == kMaxStack) fail(fmt::format("more than {} values wait", kMaxStack));
    stack_.push_back(index);
  }
  void push(PickleValue value) {
    if (pickle_.values.size() == kMaxValues) fail(fmt::format("more than {} values", kMaxValues));
    value.offset = offset_ + opcode_at_;
    pickle_.values.push_back(std::move(value));
    push_index(static_cast<PickleIndex>(pickle_.values.size() - 1));
  }
  void push_integer(std::int64_t value) { push({.kind = PickleKind::kInteger, .integer = value}); }
  void push_tuple(std::vector<PickleIndex> items) {
    push({.kind = PickleKind::kTuple, .items = std::move(items)});
  }

  // Values above the last mark.
  std::size_t num_free() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  PickleIndex pop() {
    if (num_free() == 0) fail("the stack is empty");
    const PickleIndex index = stack_.back();
    stack_.pop_back();
    return index;
  }
  PickleValue& top() {
    if (num_free() == 0) fail("the stack is empty");
    return pickle_.values[stack_.back()];
  }
  std::vector<PickleIndex> pop_last(std::size_t count) {
    if (num_free() < count) fail("the stack is empty");
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<PickleIndex> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return items;
  }
  std::vector<PickleIndex> pop_to_mark() {
    if (marks_.empty()) fail("no MARK");
    std::vector<PickleIndex> items = pop_last(num_free());
    marks_.pop_back();
    return items;
  }
  void mark() {
    if (marks_.size() == kMaxDepth) fail(fmt::format("nests deeper than {}", kMaxDepth));
    marks_.push_back(stack_.size());
  }

  void long1() {
    const std::size_t size = take_unsigned(1);
    if (size > 8) fail(fmt::format("an integer of {} bytes", size));
    push_integer(take_signed(size));
  }

  void string() {
    const std::string_view text = take(take_unsigned(4));
    if (!is_valid_utf8(text)) fail("a string that is not UTF-8");
    push({.kind = PickleKind::kString, .text = text});
  }

  void put(std::uint64_t number) {
    top();
    memo_.insert_or_assign(number, stack_.back());
    if (memo_.size() > kMaxMemo) fail(fmt::format("a memo of more than {} values", kMaxMemo));
  }
  void get(std::uint64_t number) {
    const auto it = memo_.find(number);
    if (it == memo_.end()) fail(fmt::format("no value {} in the memo", number));
    push_index(it->second);
  }

  std::string_view take_line() {
    const std::string_view rest = bytes_.substr(at_, kMaxNameBytes + 1);
    const std::size_t size = rest.find('\n');
    if (size == rest.npos) fail(fmt::format("a name that does not end in {} bytes", kMaxNameBytes));
    return take(size + 1).substr(0, size);
  }
  void global() {
    const std::string_view module = take_line();
    const std::string_view name = take_line();
    const auto it =
        std::find_if(globals_.begin(), globals_.end(), [&](const PickleGlobal& allowed) {
          return allowed.module == module && allowed.name == name;
        });
    if (it == globals_.end()) {
      fail(fmt::format("global {} is not allowed: a state dict does not need it, and it is not run",
                       quote_json(std::string(module) + "." + std::string(name))));
    }
    push({.kind = PickleKind::kGlobal, .integer = it - globals_.begin()});
  }

  void reduce() {
    const PickleIndex arguments = pop();
    const PickleIndex function = pop();
    const PickleValue& called = pickle_.values[function];
    if (pickle_.values[arguments].kind != PickleKind::kTuple) {
      fail(fmt::format("REDUCE with {} as arguments", to_string(pickle_.values[arguments].kind)));
    }
    if (called.kind != PickleKind::kGlobal) {
      fail(fmt::format("REDUCE of {} is not allowed", to_string(called.kind)));
    }
    const PickleGlobal& global = globals_[static_cast<std::size_t>(called.integer)];
    if (global.use == PickleUse::kCall) {
      push({.kind = PickleKind::kCall, .items = {function, arguments}});
    } else if (global.use == PickleUse::kDict && pickle_.values[arguments].items.empty()) {
      push({.kind = PickleKind::kDict});
    } else {
      fail(fmt::format("REDUCE of {}.{} with {} arguments is not allowed", global.module,
                       global.name, pickle_.values[arguments].items.size()));
    }
  }

  // Attributes, such as _metadata of a state dict: not needed.
  void build() {
    const PickleKind state = pickle_.values[pop()].kind;
    const PickleKind target = top().kind;
    if (target != PickleKind::kDict || state != PickleKind::kDict) {
      fail(fmt::format("BUILD of {} from {} is not allowed", to_string(target), to_string(state)));
    }
  }

  void append(const std::vector<PickleIndex>& items, PickleKind kind, const char* opcode) {
    PickleValue& target = top();
    if (target.kind != kind) fail(fmt::format("{} on {}", opcode, to_string(target.kind)));
    if (kind == PickleKind::kDict && items.size() % 2 != 0) {
      fail(fmt::format("{} of a key without a value", opcode));
    }
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  std::string_view bytes_;
  const std::string& file_;
  std::uint64_t offset_;
  std::span<const PickleGlobal> globals_;
  std::size_t at_ = 0;
  std::size_t opcode_at_ = 0;
  Pickle pickle_;
  std::vector<PickleIndex> stack_;
  std::vector<std::size_t> marks_;  // sizes of stack_
  std::unordered_map<std::uint64_t, PickleIndex> memo_;
};

}  // namespace

const char* to_string(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone: return "None";
    case PickleKind::kBool: return "a boolean";
    case PickleKind::kInteger: return "an integer";
    case PickleKind::kFloat: return "a float";
    case PickleKind::kString: return "a string";
    case PickleKind::kTuple: return "a tuple";
    case PickleKind::kList: return "a list";
    case PickleKind::kDict: return "a dictionary";
    case PickleKind::kGlobal: return "a global";
    case PickleKind::kPersistent: return "a storage";
    case PickleKind::kCall: return "an object";
  }
  return "?";
}

Pickle read_pickle(std::string_view bytes, const std::string& file, std::uint64_t offset,
                   std::span<const PickleGlobal> globals) {
  return Machine(bytes, file, offset, globals).run();
}

}  // namespace llmrun
