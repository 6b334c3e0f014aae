#include "engine/chat_template/jinja_loop.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/chat_template/jinja_interpreter.h"

namespace llmrun::jinja {
namespace {

// loop.cycle
class CycleMethod : public Object {
 public:
  explicit CycleMethod(std::shared_ptr<LoopObject> loop) : loop_(std::move(loop)) {}

  std::string_view type_name() const override { return "method"; }
  void append_repr(std::string& out, RenderBudget& /*budget*/) override {
    out += "<bound method LoopContext.cycle>";
  }
  bool is_callable() const override { return true; }
  int nesting() const override { return loop_->nesting(); }

  Value call(Interpreter& /*interpreter*/, const Arguments& arguments) override {
    if (arguments.positional.empty() || !arguments.keyword.empty()) {
      throw RenderError("loop.cycle() takes one or more items");
    }
    const auto count = static_cast<std::int64_t>(arguments.positional.size());
    return arguments.positional[static_cast<std::size_t>(loop_->index0() % count)];
  }

 private:
  std::shared_ptr<LoopObject> loop_;
};

}  // namespace

LoopObject::LoopObject(const Value& iterable, RenderBudget& budget)
    : budget_(budget),
      nesting_(Value::nesting_around(iterable.nesting())),
      iterable_(iterable),
      cursor_(iterable, budget) {}

bool LoopObject::advance(Value& item) {
  if (!peek()) return false;
  previous_ = std::exchange(current_, *next_);
  next_.reset();
  ++index0_;
  item = current_;
  return true;
}

bool LoopObject::peek() {
  if (next_) return true;
  Value item;
  if (!cursor_.next(item)) return false;
  next_ = std::move(item);
  return true;
}

std::int64_t LoopObject::length() {
  if (length_) return *length_;
  if (!iterable_.is(ValueKind::kIterator)) {
    length_ = jinja::length(iterable_);
    return *length_;
  }
  std::vector<Value> rest;
  for (Value item; cursor_.next(item);) rest.push_back(item);
  length_ = static_cast<std::int64_t>(rest.size()) + index0_ + 1 + (next_ ? 1 : 0);
  iterable_ = Value::list(std::move(rest), budget_);
  cursor_ = Cursor(iterable_, budget_);
  return *length_;
}

void LoopObject::append_repr(std::string& out, RenderBudget& /*budget*/) {
  out += fmt::format("<LoopContext {}/{}>", index0_ + 1, length());
}

std::optional<Value> LoopObject::attribute(std::string_view name, Interpreter& /*interpreter*/) {
  const auto found = [](Value value) { return std::optional<Value>(std::move(value)); };
  if (name == "index") return found(index0_ + 1);
  if (name == "index0") return found(index0_);
  if (name == "first") return found(index0_ == 0);
  if (name == "last") return found(!peek());
  if (name == "length") return found(length());
  if (name == "revindex") return found(length() - index0_);
  if (name == "revindex0") return found(length() - index0_ - 1);
  if (name == "depth") return found(std::int64_t{1});
  if (name == "depth0") return found(std::int64_t{0});
  if (name == "previtem") {
    return found(index0_ == 0 ? Value::undefined("there is no previous item") : previous_);
  }
  if (name == "nextitem") {
    return found(peek() ? *next_ : Value::undefined("there is no next item"));
  }
  if (name == "cycle")
    return found(std::shared_ptr<Object>(std::make_shared<CycleMethod>(shared_from_this())));
  if (name == "changed") throw RenderError("loop.changed() is not supported");
  return std::nullopt;
}

}  // namespace llmrun::jinja
