#include "engine/sequence/sequence.h"

#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using Tokens = std::vector<TokenId>;

Sequence make_sequence(Tokens prompt, std::int64_t max_output_tokens,
                       bool needs_host_tokens = false) {
  return Sequence({.id = 1,
                   .prompt_token_ids = std::move(prompt),
                   .max_output_tokens = max_output_tokens,
                   .needs_host_tokens = needs_host_tokens});
}

Tokens to_vector(std::span<const TokenId> tokens) {
  return {tokens.begin(), tokens.end()};
}

TEST_CASE("a new sequence has its prompt and nothing else") {
  const Sequence sequence = make_sequence({5, 6, 7}, 2);
  CHECK(to_vector(sequence.token_ids()) == Tokens{5, 6, 7});
  CHECK(sequence.output_token_ids().empty());
  CHECK(sequence.num_prompt_tokens() == 3);
  CHECK(sequence.num_tokens() == 3);
  CHECK(sequence.num_uncomputed_tokens() == 3);
  CHECK(sequence.num_output_tokens() == 0);
  CHECK(sequence.max_num_tokens() == 5);
  CHECK(sequence.is_plannable());
  CHECK(sequence.status == SequenceStatus::kWaiting);
}

TEST_CASE("an empty prompt and no output are bugs of the caller") {
  CHECK_THROWS_AS(make_sequence({}, 2), Error);
  CHECK_THROWS_AS(make_sequence({1}, 0), Error);
}

TEST_CASE("closing the gap makes one token pending, a part of it none") {
  Sequence sequence = make_sequence({5, 6, 7}, 3);
  sequence.plan(2);
  CHECK(sequence.num_pending_tokens() == 0);
  CHECK(sequence.num_uncomputed_tokens() == 1);
  sequence.plan(1);
  CHECK(sequence.num_pending_tokens() == 1);
  CHECK(sequence.num_tokens() == 4);
  CHECK(sequence.num_uncomputed_tokens() == 1);
  CHECK(sequence.token_ids().size() == 3);
}

TEST_CASE("one step ahead, two tokens are pending and become known in order") {
  Sequence sequence = make_sequence({5}, 3);
  sequence.plan(1);
  sequence.plan(1);
  CHECK(sequence.num_pending_tokens() == 2);
  CHECK(sequence.num_tokens() == 3);
  sequence.resolve_pending(8);
  CHECK(sequence.num_pending_tokens() == 1);
  CHECK(sequence.num_tokens() == 3);
  sequence.resolve_pending(9);
  CHECK(to_vector(sequence.output_token_ids()) == Tokens{8, 9});
  CHECK_THROWS_AS(sequence.resolve_pending(10), Error);
}

TEST_CASE("a plan never goes past the gap") {
  Sequence sequence = make_sequence({5, 6}, 3);
  CHECK_THROWS_AS(sequence.plan(3), Error);
  CHECK_THROWS_AS(sequence.plan(0), Error);
  CHECK_THROWS_AS(sequence.plan(-1), Error);
  sequence.plan(2);
  CHECK_THROWS_AS(sequence.plan(2), Error);
}

TEST_CASE("known and pending tokens together reach the maximum") {
  Sequence sequence = make_sequence({5}, 2);
  sequence.plan(1);
  CHECK_FALSE(sequence.reached_max_tokens());
  sequence.plan(1);
  CHECK(sequence.reached_max_tokens());
  CHECK_FALSE(sequence.is_plannable());
  sequence.resolve_pending(1);
  sequence.resolve_pending(2);
  CHECK(sequence.reached_max_tokens());
}

TEST_CASE("a sequence that needs its tokens on the host is planned only when it has them") {
  Sequence sequence = make_sequence({5, 6}, 4, true);
  sequence.plan(1);
  CHECK(sequence.is_plannable());
  sequence.plan(1);
  CHECK_FALSE(sequence.is_plannable());
  sequence.resolve_pending(1);
  CHECK(sequence.is_plannable());
}

TEST_CASE("a cached prefix counts as computed and leaves the last token") {
  Sequence sequence = make_sequence({5, 6, 7, 8}, 2);
  CHECK_THROWS_AS(sequence.set_cached_prefix(4), Error);
  CHECK_THROWS_AS(sequence.set_cached_prefix(-1), Error);
  sequence.set_cached_prefix(3);
  CHECK(sequence.num_uncomputed_tokens() == 1);
  CHECK_THROWS_AS(sequence.set_cached_prefix(2), Error);
}

TEST_CASE("forgetting what was computed keeps the tokens") {
  Sequence sequence = make_sequence({5, 6}, 4);
  sequence.plan(2);
  CHECK_THROWS_AS(sequence.forget_computed(), Error);  // a token is pending
  sequence.resolve_pending(7);
  sequence.num_steps_in_flight = 1;
  CHECK_THROWS_AS(sequence.forget_computed(), Error);
  sequence.num_steps_in_flight = 0;
  sequence.forget_computed();
  CHECK(sequence.num_uncomputed_tokens() == 3);
  CHECK(to_vector(sequence.token_ids()) == Tokens{5, 6, 7});
  sequence.plan(3);
  CHECK(sequence.num_pending_tokens() == 1);
}

TEST_CASE("dropping pending tokens keeps the known ones") {
  Sequence sequence = make_sequence({5}, 4);
  sequence.plan(1);
  sequence.plan(1);
  sequence.resolve_pending(7);
  sequence.drop_pending();
  CHECK(sequence.num_tokens() == 2);
  CHECK(to_vector(sequence.output_token_ids()) == Tokens{7});
}

TEST_CASE("replacing the output of a beam keeps the prompt") {
  Sequence sequence = make_sequence({5, 6}, 4);
  sequence.plan(2);
  CHECK_THROWS_AS(sequence.replace_output(Tokens{1, 2}, 2), Error);
  sequence.resolve_pending(7);
  CHECK_THROWS_AS(sequence.replace_output(Tokens{1, 2}, 4), Error);
  sequence.replace_output(Tokens{1, 2}, 2);
  CHECK(to_vector(sequence.token_ids()) == Tokens{5, 6, 1, 2});
  CHECK(sequence.num_computed_tokens() == 2);
  CHECK(sequence.num_uncomputed_tokens() == 2);
}

}  // namespace
}  // namespace llmrun
