#include "engine/weights/pickle_reader.h"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using namespace std::string_literals;

constexpr std::array kGlobals = {PickleGlobal{"collections", "OrderedDict", PickleUse::kDict},
                                 PickleGlobal{"m", "call", PickleUse::kCall},
                                 PickleGlobal{"m", "Name"}};

// With the opcodes between PROTO and STOP.
std::string pickle_of(const std::string& opcodes) {
  return "\x80\x02" + opcodes + ".";
}

std::string error_of_bytes(const std::string& bytes) {
  try {
    read_pickle(bytes, "file", 100, kGlobals);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    return error.what();
  }
}

std::string error_of(const std::string& opcodes) {
  return error_of_bytes(pickle_of(opcodes));
}

std::int64_t integer_of(const std::string& opcodes) {
  const std::string bytes = pickle_of(opcodes);
  const Pickle pickle = read_pickle(bytes, "file", 0, kGlobals);
  REQUIRE(pickle.values[pickle.root].kind == PickleKind::kInteger);
  return pickle.values[pickle.root].integer;
}

TEST_CASE("integers") {
  CHECK(integer_of("K\xff") == 255);
  CHECK(integer_of("M\xff\xff") == 65535);
  CHECK(integer_of("J\xff\xff\xff\xff") == -1);
  CHECK(integer_of("J\xff\xff\xff\x7f") == 2147483647);
  CHECK(integer_of("\x8a\x00"s) == 0);
  CHECK(integer_of("\x8a\x01\xff") == -1);
  CHECK(integer_of("\x8a\x05\x00\x00\x00\x00\x01"s) == 4294967296);
  CHECK(integer_of("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f") == 9223372036854775807);
  CHECK(error_of("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f") ==
        "file: offset 102 (pickle): an integer of 9 bytes");
}

TEST_CASE("a call stays a value") {
  const std::string bytes = pickle_of("cm\ncall\nq\x01K\x07\x85Rq\x02"s);
  const Pickle pickle = read_pickle(bytes, "file", 100, kGlobals);
  const PickleValue& call = pickle.values[pickle.root];
  REQUIRE(call.kind == PickleKind::kCall);
  CHECK(call.offset == 100 + 2 + 8 + 2 + 2 + 1);
  CHECK(pickle.values[call.items[0]].integer == 1);
  const PickleValue& arguments = pickle.values[call.items[1]];
  REQUIRE(arguments.kind == PickleKind::kTuple);
  CHECK(pickle.values[arguments.items[0]].integer == 7);
}

TEST_CASE("dictionaries, lists and their attributes") {
  const std::string bytes =
      pickle_of("ccollections\nOrderedDict\n)R(X\x01\0\0\0aK\x01X\x01\0\0\0b](NNeu}b"s);
  const Pickle pickle = read_pickle(bytes, "file", 0, kGlobals);
  const PickleValue& dict = pickle.values[pickle.root];
  REQUIRE(dict.kind == PickleKind::kDict);
  REQUIRE(dict.items.size() == 4);
  CHECK(pickle.values[dict.items[2]].text == "b");
  CHECK(pickle.values[dict.items[3]].items.size() == 2);
  CHECK(error_of("]q\x01h\x01"s + "a") == "");  // a list in itself
}

TEST_CASE("opcodes that a state dict does not need are refused by name") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"0", "POP"},         {"2", "DUP"},
      {"i", "INST"},        {"o", "OBJ"},
      {"\x81", "NEWOBJ"},   {"\x92", "NEWOBJ_EX"},
      {"\x82", "EXT1"},     {"\x93", "STACK_GLOBAL"},
      {"S", "STRING"},      {"\x8b", "LONG4"},
      {"\x95", "FRAME"},    {"\x94", "MEMOIZE"},
      {"g", "GET"},         {"\x8d", "BINUNICODE8"},
      {"\x80\x02", "PROTO"}};
  for (const auto& [code, name] : cases) {
    CHECK(error_of("N" + code) ==
          fmt::format("file: offset 103 (pickle): opcode {} is not allowed: a state dict does not "
                      "need it",
                      name));
  }
  CHECK(error_of("\xf0") == "file: offset 102 (pickle): unknown opcode 0xf0");
  for (int code = 0; code < 256; ++code) {  // alone, each is refused or complete
    error_of_bytes(pickle_of(std::string(1, static_cast<char>(code))));
  }
}

TEST_CASE("globals and calls that are not on the list") {
  const std::string refused = " is not allowed: a state dict does not need it, and it is not run";
  CHECK(error_of("cos\nsystem\n") == "file: offset 102 (pickle): global \"os.system\"" + refused);
  CHECK(error_of("cm\ncall.x\n") == "file: offset 102 (pickle): global \"m.call.x\"" + refused);
  CHECK(error_of("cm.call\n\n") == "file: offset 102 (pickle): global \"m.call.\"" + refused);
  CHECK(error_of("c" + std::string(1000, 'x') + "\nx\n") ==
        "file: offset 102 (pickle): a name that does not end in 256 bytes");
  CHECK(error_of("cm\nName\n)R").ends_with("REDUCE of m.Name with 0 arguments is not allowed"));
  CHECK(error_of("ccollections\nOrderedDict\nN\x85R")
            .ends_with("REDUCE of collections.OrderedDict with 1 arguments is not allowed"));
  CHECK(error_of("N)R").ends_with("REDUCE of None is not allowed"));
  CHECK(error_of("cm\ncall\n)R)R").ends_with("REDUCE of an object is not allowed"));
  CHECK(error_of("cm\ncall\nNR").ends_with("REDUCE with None as arguments"));
  CHECK(
      error_of("cm\ncall\n)R}b").ends_with("BUILD of an object from a dictionary is not allowed"));
  CHECK(error_of("cm\nName\n}b").ends_with("BUILD of a global from a dictionary is not allowed"));
  CHECK(error_of("}Nb").ends_with("BUILD of a dictionary from None is not allowed"));
}

TEST_CASE("a stack, a memo and marks that are not there") {
  CHECK(error_of("").ends_with("STOP with values left on the stack"));
  CHECK(error_of("NN").ends_with("STOP with values left on the stack"));
  CHECK(error_of("N(").ends_with("STOP with values left on the stack"));
  for (const char* opcode : {"R", "b", "s", "a", "Q", "\x85", "\x86", "\x87", "q\x01", "(R",
                             "N(\x85", "N(q\x01", "u(", "NNN(s"}) {
    CAPTURE(opcode);
    const std::string message = error_of(opcode);
    CHECK((message.ends_with("the stack is empty") || message.ends_with("no MARK")));
  }
  CHECK(error_of("h\x05").ends_with("no value 5 in the memo"));
  CHECK(error_of("j\xff\xff\xff\xff").ends_with("no value 4294967295 in the memo"));
  CHECK(error_of("}(Nu").ends_with("SETITEMS of a key without a value"));
  CHECK(error_of("](NNu").ends_with("SETITEMS on a list"));
  CHECK(error_of(")Na").ends_with("APPEND on a tuple"));
  CHECK(error_of("X\x01\0\0\0\xff"s).ends_with("a string that is not UTF-8"));
}

TEST_CASE("lengths and counts are bounded") {
  CHECK(error_of("X\xff\xff\xff\xff").ends_with("the pickle is cut"));
  CHECK(error_of(std::string(65, '(')).ends_with("nests deeper than 64"));
  CHECK(error_of(std::string(100000, 'N')).ends_with("more than 65536 values wait"));
  std::string many = "](";
  for (int i = 0; i < 300; ++i) many += std::string(8000, 'N') + "e(";
  CHECK(error_of(many).ends_with("more than 2097152 values"));
  // Tuples in tuples, deeper than any stack: read and freed without recursion.
  CHECK(error_of("N" + std::string(1000000, '\x85')) == "");
  CHECK(error_of_bytes("\x80\x02N.x").ends_with("1 bytes follow the end of the pickle"));
  CHECK(error_of_bytes("").ends_with("the pickle is cut"));
  CHECK(error_of_bytes("N.").ends_with("not a pickle of protocol 2"));
  CHECK(error_of_bytes("\x80\x05N.").ends_with("a pickle of protocol 5; torch.save writes 2"));
}

}  // namespace
}  // namespace llmrun
