// The two Unicode properties that added tokens ask for, as Rust's regex crate defines \s and \w.
#pragma once

namespace llmrun {

// \s: the White_Space property.
bool is_white_space(char32_t code_point);

// \w: Alphabetic, marks, decimal digits, connector punctuation and joiners.
bool is_word_character(char32_t code_point);

}  // namespace llmrun
