// A set of questions in GSM8K's format: JSON lines with "question" and "answer", which ends in
// "#### N".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llmrun {

struct EvalQuestion {
  std::int64_t line = 0;     // in the file, from 1
  std::string content_hash;  // see InputItem
  std::string question;
  std::string answer;
  std::string group;  // the value of the field that accuracy is told apart by; may be empty
};

struct EvalDataset {
  std::string path;
  std::string sha256;  // of the file, in hexadecimal
  std::vector<EvalQuestion> questions;
};

// The first `limit` questions of the file (0: all). `group_field` names a further field, or is
// empty. Throws Error(kInput) that names file and line for what is not in that format, and for a
// file without questions: a set with holes would be another set.
EvalDataset read_eval_dataset(const std::string& path, std::int64_t limit,
                              const std::string& group_field);

}  // namespace llmrun
