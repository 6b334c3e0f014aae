#include "tools/input/input_item.h"

#include <cstring>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/sha256.h"

namespace llmrun {
namespace {

constexpr std::size_t kHashBytes = 16;

RowKey key_of(Sha256& hash) {
  const Sha256Digest digest = hash.finish();
  RowKey key;
  std::memcpy(&key.high, digest.data(), sizeof(key.high));
  std::memcpy(&key.low, digest.data() + sizeof(key.high), sizeof(key.low));
  return key;
}

// A field and its length, so that no two lists of fields have the same bytes.
void add_field(Sha256& hash, std::string_view field) {
  hash.update(fmt::format("{}:", field.size()));
  hash.update(field);
}

}  // namespace

std::string content_hash(std::string_view bytes) {
  const Sha256Digest digest = sha256(bytes);
  return {digest.begin(), digest.begin() + kHashBytes};
}

std::string input_hash(const InputItem& item, std::string_view fingerprint) {
  Sha256 hash;
  add_field(hash, fingerprint);
  add_field(hash, item.has_id ? item.id : fmt::format("row {}", item.index));
  add_field(hash, item.content_hash);
  add_field(hash, dump_json(to_json(item.sampling)));
  const Sha256Digest digest = hash.finish();
  return to_hex(std::span(digest).first(kHashBytes));
}

RowKey row_key(std::string_view id) {
  Sha256 hash;
  hash.update("id ");
  hash.update(id);
  return key_of(hash);
}

RowKey row_key(std::int64_t index) {
  Sha256 hash;
  hash.update(fmt::format("index {}", index));
  return key_of(hash);
}

RowKey row_key(const InputItem& item) {
  return item.has_id ? row_key(item.id) : row_key(item.index);
}

}  // namespace llmrun
