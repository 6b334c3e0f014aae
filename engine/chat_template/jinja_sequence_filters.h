// The filters that read or make sequences. map, select, reject and their kin are lazy, as in
// jinja2: they yield an iterator that can be read once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/chat_template/jinja_builtins.h"

namespace llmrun::jinja {

Value batch_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value dictsort_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value first_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value items_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value join_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value last_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value list_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value map_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value max_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value min_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value reject_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value rejectattr_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value reverse_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value select_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value selectattr_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value slice_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value sort_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value sum_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);
Value unique_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments);

// str.join(items) with the separator; used by the filter and the method. Items that are not strings
// are printed, or an error if `strings_only`.
Value join(Interpreter& interpreter, std::string_view separator, const Value& items,
           bool strings_only);

// str.replace whose result is checked against the budget before it is made.
std::string bounded_replace(std::string_view text, std::string_view from, std::string_view to,
                            std::int64_t max_count, RenderBudget& budget);

}  // namespace llmrun::jinja
