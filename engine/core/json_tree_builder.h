// Builds a JSON tree from events. Public for handlers that take the large parts of a file for
// themselves and leave the rest to a tree.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/json.h"

namespace llmrun {

// What `key` throws for a repeated key; parse_json turns it into Error.
struct DuplicateKeyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// `Json` is nlohmann::json or nlohmann::ordered_json. Linear in the number of events for both.
template <typename Json>
class JsonTreeBuilder : public JsonHandler {
 public:
  explicit JsonTreeBuilder(bool reject_duplicate_keys)
      : reject_duplicate_keys_(reject_duplicate_keys) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(Json(nullptr)); }
  bool boolean(bool value) override { return put(Json(value)); }
  bool number_integer(std::int64_t value) override { return put(Json(value)); }
  bool number_unsigned(std::uint64_t value) override { return put(Json(value)); }
  bool number_float(double value, const std::string& /*token*/) override {
    return put(Json(value));
  }
  bool string(std::string& value) override { return put(Json(std::move(value))); }
  bool start_object(std::size_t /*size*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*size*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& value) override {
    auto& object = levels_.back().container->template get_ref<typename Json::object_t&>();
    if constexpr (kOrdered) {
      // The container's own look-up is linear.
      const auto [known, inserted] = levels_.back().positions.emplace(value, object.size());
      if (!inserted) refuse_duplicate(value);
      if (inserted) object.Json::object_t::Container::emplace_back(std::move(value), Json());
      levels_.back().member = &object.Json::object_t::Container::at(known->second).second;
    } else {
      const auto [member, inserted] = object.try_emplace(std::move(value));
      if (!inserted) refuse_duplicate(member->first);
      levels_.back().member = &member->second;
    }
    return true;
  }

 private:
  static constexpr bool kOrdered = std::is_same_v<Json, nlohmann::ordered_json>;

  // An object or array that is not yet closed.
  struct Level {
    Json* container;
    Json* member;  // where the next value of an object goes
    std::unordered_map<std::string, std::size_t> positions;  // of keys, when ordered
  };

  void refuse_duplicate(const std::string& key) const {
    if (reject_duplicate_keys_) throw DuplicateKeyError("duplicate key " + describe_json(key));
  }
  Json* place(Json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.container->is_array()) {
      level.container->push_back(std::move(value));
      return &level.container->back();
    }
    *level.member = std::move(value);
    return level.member;
  }
  bool put(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    Json* container = place(std::move(value));
    levels_.push_back({container, nullptr, {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Level> levels_;
  bool reject_duplicate_keys_;
};

}  // namespace llmrun
