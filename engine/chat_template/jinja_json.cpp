#include <algorithm>

#include <fmt/format.h>

#include "engine/chat_template/jinja_builtins.h"
#include "engine/chat_template/python_text.h"

namespace llmrun::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, RenderBudget& budget) : style_(style), budget_(budget) {}

  void write(const Value& value) {
    const RenderBudget::Depth depth(budget_);
    budget_.charge_steps();
    if (out_.size() > budget_.limits().string_bytes) budget_.charge_string(out_.size());
    switch (value.kind()) {
      case ValueKind::kString: return write_string(value.as_string());
      case ValueKind::kDict: return write_dict(value.as_dict());
      case ValueKind::kSequence:
        if (value.as_sequence().type <= SequenceType::kTuple) {
          return write_list(value.as_sequence());
        }
        break;
      case ValueKind::kNone:
      case ValueKind::kBool:
      case ValueKind::kInt:
      case ValueKind::kFloat: out_ += scalar(value); return;
      default: break;
    }
    throw RenderError(fmt::format("object of type {} is not JSON serializable", type_name(value)));
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is(ValueKind::kBool)) return value.as_bool() ? "true" : "false";
    if (value.is(ValueKind::kInt)) return std::to_string(value.as_int());
    const std::string text = repr(value.as_double());
    if (text == "nan") return "NaN";
    if (text == "inf") return "Infinity";
    return text == "-inf" ? "-Infinity" : text;
  }

  void write_string(std::string_view text) {
    out_ += '"';
    for (std::size_t offset = 0; offset < text.size();) {
      const std::size_t begin = offset;
      const char32_t c = decode_code_point(text, offset);
      switch (c) {
        case '"': out_ += "\\\""; break;
        case '\\': out_ += "\\\\"; break;
        case '\n': out_ += "\\n"; break;
        case '\r': out_ += "\\r"; break;
        case '\t': out_ += "\\t"; break;
        case '\f': out_ += "\\f"; break;
        case '\b': out_ += "\\b"; break;
        default:
          if (c < 0x20 || (style_.ensure_ascii && c > 0x7E)) {
            write_escape(c);
          } else {
            out_ += text.substr(begin, offset - begin);
          }
      }
    }
    out_ += '"';
  }

  void write_escape(char32_t c) {
    if (c >= 0x10000) {  // a surrogate pair
      const auto rest = static_cast<std::uint32_t>(c - 0x10000);
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    } else {
      out_ += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
    }
  }

  void write_newline(int level) {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  // Items between brackets; with an indent, one a line.
  template <typename Items, typename WriteItem>
  void write_items(char open, char close, const Items& items, const WriteItem& write_item) {
    out_ += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out_ += style_.item_separator;
      first = false;
      write_newline(level_);
      write_item(item);
    }
    --level_;
    if (!first) write_newline(level_);
    out_ += close;
  }

  void write_list(const Sequence& sequence) {
    write_items('[', ']', sequence.items, [this](const Value& item) { write(item); });
  }

  void write_dict(const Dict& dict) {
    std::vector<std::pair<Value, Value>> items = dict.items;
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [this](const auto& a, const auto& b) {
        return less_than(a.first, b.first, budget_);
      });
    }
    write_items('{', '}', items, [this](const auto& item) {
      const auto& [key, value] = item;
      if (key.is_string()) {
        write_string(key.as_string());
      } else {
        out_ += '"' + scalar(key) + '"';
      }
      out_ += style_.key_separator;
      write(value);
    });
  }

  const JsonStyle& style_;
  RenderBudget& budget_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style, RenderBudget& budget) {
  JsonWriter writer(style, budget);
  writer.write(value);
  return writer.take();
}

}  // namespace llmrun::jinja
