// A question's answers in one case as one line of JSON, and back.
//
//   {"id": "CASE/PLACE", "index", "case", "doc_id", "line", "question", "target",
//    "outputs": [{"index", "text", "finish_reason", "num_tokens",
//                 "filtered": {RULE: answer}, "exact_match": {RULE: 0 or 1}} or
//                {"index", "error": {"code", "message"}}],
//    "usage", "finished_s", "error", "input_hash"}
// "error" is there when a sample failed, so that --retry-errors asks the question again.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "tools/eval/answer_extraction.h"
#include "tools/eval/eval_dataset.h"
#include "tools/eval/eval_run.h"
#include "tools/input/input_item.h"

namespace llmrun {

// The row that a question is in one case: what output and manifest know of it.
InputItem eval_item(const std::string& case_name, std::int64_t index, std::int64_t place,
                    const EvalQuestion& question, const SamplingParams& params);

std::string eval_record(const InputItem& item, const std::string& case_name,
                        const EvalQuestion& question, const QuestionResult& result,
                        const AnswerExtractor& extractor, const std::string& fingerprint);

// The results that a file of records holds, by case and place. Throws Error(kInput) that names
// file and line for a record that is none of an evaluation.
using EvalResults = std::map<std::pair<std::string, std::int64_t>, QuestionResult>;
EvalResults read_eval_records(const std::string& path);

}  // namespace llmrun
