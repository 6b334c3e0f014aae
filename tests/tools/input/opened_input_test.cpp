#include "tools/input/opened_input.h"

#include <cstdio>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "engine/core/error.h"
#include "tests/tools/input/read_rows.h"
#include "tests/tools/input/text_files.h"

namespace llmrun {
namespace {

using namespace std::string_literals;  // NOLINT

// As a file of safetensors begins: the header's length, the header, floats.
std::string weights_file() {
  std::string text = "\x40\x02\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}"s;
  text.resize(584, ' ');
  for (int i = 0; i < 4096; ++i) text += "\x0a\0\x80\x3f"s;
  return text;
}

bool is_text(const std::string& head) {
  try {
    refuse_other_than_text(head, "prompts");
    return true;
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    return false;
  }
}

TEST_CASE("a binary file is told from text with bad lines") {
  CHECK(!is_text(weights_file()));
  CHECK(!is_text("PK\x03\x04\0\0\x08\x08\0\0"s));
  CHECK(!is_text("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01"s));
  CHECK(!is_text("O\0n\0e\0\n\0t\0w\0o\0\n\0"s));
  // Of noise not every line has a NUL byte.
  CHECK(!is_text("\xc3\x28\n\xa0\xa1\x90\n\xff\0\x12\n\xe2\x28\n\x13\xf0\n"s));
  CHECK(is_text(""));
  CHECK(is_text("one\nt\0o\nthree\nfour\n"s));
  CHECK(
      is_text("Stra\xdf"
              "e\n"));
  CHECK(is_text("{\"prompt\": \"a\0b\"}\n"s));
  CHECK(is_text("[\"a\0b\"]"s));
  // Nothing beyond the first 4096 bytes counts.
  CHECK(is_text(std::string(4096, 'a') + std::string(9000, '\0')));
  CHECK(is_text(std::string(2047, 'a') + "\n" + std::string(2048, '\0')));
  CHECK(!is_text(std::string(2046, 'a') + "\n" + std::string(2049, '\0')));
}

TEST_CASE("an input is looked at when it is opened, and nothing of it is lost") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  write_text(path, weights_file());
  CHECK_THROWS_WITH_AS(open_input(path),
                       (path + ": is a binary file (NUL bytes in the first 4096); expected prompts "
                               "in UTF-8: one a line, JSON lines, ShareGPT JSON or an OpenAI batch "
                               "file")
                           .c_str(),
                       Error);
  const std::string empty = folder / "empty.jsonl";
  write_text(empty, "");
  CHECK_THROWS_WITH_AS(open_input(empty), (empty + ": is empty; expected prompts").c_str(), Error);
  const std::string prompts = folder / "prompts.txt";
  write_text(prompts, "one\ntwo\n");
  RequestReader reader(open_input(prompts), {});
  CHECK(reader.name() == prompts);
  CHECK(read_all(reader).size() == 2);
}

TEST_CASE("a bad line deep in a file is an error of its row") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "What is 3 + 4?\n";
  text += weights_file().substr(0, 500) + "\n\xff\xfe\nlast\n";
  const TemporaryFolder folder;
  write_text(folder / "prompts.txt", text);
  RequestReader reader(open_input(folder / "prompts.txt"), {});
  const std::vector<InputItem> items = read_all(reader);
  REQUIRE(items.size() == 1003);
  CHECK(error_code(items[1000]) == "invalid_text");
  CHECK(error_code(items[1001]) == "invalid_utf8");
  CHECK(items[1002].prompt == "last");
}

TEST_CASE("a pipe is looked at when it has something, and its writer is not waited for") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::FILE* writer = std::fopen(path.c_str(), "r+");
  REQUIRE(writer != nullptr);
  const std::string bytes = weights_file().substr(0, 100);
  OpenedInput early = open_input(path);
  CHECK(early.bytes->data().empty());
  std::fwrite(bytes.data(), 1, bytes.size(), writer);
  std::fflush(writer);
  CHECK_THROWS_AS(open_input(path), Error);
  std::fwrite(bytes.data(), 1, bytes.size(), writer);
  std::fclose(writer);
  CHECK_THROWS_AS(RequestReader(std::move(early), {}), Error);
}

}  // namespace
}  // namespace llmrun
