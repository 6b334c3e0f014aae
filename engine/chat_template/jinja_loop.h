// The variable `loop` of a for statement, which also drives the iteration.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/chat_template/jinja_value.h"

namespace llmrun::jinja {

class LoopObject : public Object, public std::enable_shared_from_this<LoopObject> {
 public:
  // Throws RenderError if `iterable` is not iterable.
  LoopObject(const Value& iterable, RenderBudget& budget);

  // Moves to the next item; false at the end.
  bool advance(Value& item);

  std::string_view type_name() const override { return "LoopContext"; }
  void append_repr(std::string& out, RenderBudget& budget) override;
  std::optional<Value> attribute(std::string_view name, Interpreter& interpreter) override;
  int nesting() const override { return nesting_; }
  std::int64_t index0() const { return index0_; }

 private:
  bool peek();
  std::int64_t length();

  RenderBudget& budget_;
  int nesting_;
  Value iterable_;
  Cursor cursor_;
  std::optional<std::int64_t> length_;  // of an iterator: known once it is read to the end
  std::int64_t index0_ = -1;
  std::optional<Value> next_;  // read ahead by `last` or `nextitem`
  Value previous_, current_;
};

}  // namespace llmrun::jinja
