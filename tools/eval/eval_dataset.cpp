#include "tools/eval/eval_dataset.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/eval/answer_extraction.h"
#include "tools/input/input_buffer.h"
#include "tools/input/input_item.h"
#include "tools/input/line_reader.h"
#include "tools/output/run_manifest.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
constexpr std::int64_t kMaxQuestions = 1'000'000;

std::string group_of(const nlohmann::json& row, const std::string& field) {
  if (field.empty() || !row.contains(field)) return "";
  const nlohmann::json& value = row[field];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

EvalQuestion parse_question(const Line& line, const std::string& place,
                            const std::string& group_field) {
  const nlohmann::json row = parse_json(line.text, place, kRequestJson);
  const JsonObject object(row, place, ErrorKind::kInput);
  EvalQuestion question;
  question.line = line.number;
  question.content_hash = content_hash(line.text);
  question.question = object.get_string("question");
  question.answer = object.get_string("answer");
  question.group = group_of(row, group_field);
  if (question.question.empty()) object.fail("question", "is empty");
  if (!has_final_number(question.answer)) {
    object.fail("answer", "must end in \"#### \" and a number, as in GSM8K");
  }
  return question;
}

}  // namespace

EvalDataset read_eval_dataset(const std::string& path, std::int64_t limit,
                              const std::string& group_field) {
  EvalDataset dataset{.path = path, .sha256 = "", .questions = {}};
  InputBuffer input(std::make_unique<FileSource>(path));
  LineReader lines(input, kMaxLineBytes);
  while (const auto line = lines.next()) {
    if (limit > 0 && std::ssize(dataset.questions) == limit) break;
    const std::string place = fmt::format("{}:{}", path, line->number);
    if (line->too_long) {
      throw Error(ErrorKind::kInput, fmt::format("{}: the line has {} bytes; at most {} are read",
                                                 place, line->size, kMaxLineBytes));
    }
    if (line->text.find_first_not_of(" \t\r") == line->text.npos) continue;
    if (std::ssize(dataset.questions) == kMaxQuestions) {
      throw Error(ErrorKind::kInput, fmt::format("{}: more than {} questions; evaluate a part of "
                                                 "them by --limit",
                                                 place, kMaxQuestions));
    }
    dataset.questions.push_back(parse_question(*line, place, group_field));
  }
  if (dataset.questions.empty()) {
    throw Error(ErrorKind::kInput, fmt::format("{}: holds no questions", path));
  }
  const auto has_group = [](const EvalQuestion& question) { return !question.group.empty(); };
  if (!group_field.empty() && std::ranges::none_of(dataset.questions, has_group)) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--group-by: no question of {} has a field \"{}\"", path, group_field));
  }
  if (const auto identity = identify_input(path)) dataset.sha256 = identity->sha256;
  return dataset;
}

}  // namespace llmrun
