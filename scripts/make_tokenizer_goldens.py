#!/usr/bin/env python3
"""Trains tiny tokenizers with Hugging Face's pipelines and writes what they make of nasty strings.

    python3 scripts/make_tokenizer_goldens.py                      # rewrites tests/data/tokenizer
    python3 scripts/make_tokenizer_goldens.py --count 50000 --output DIR [--models DIR]

With --models the tokenizers of that folder are used instead of new ones; any Hugging Face model folder
with a tokenizer.json works. Each folder gets golden.jsonl with lines of two kinds:
    {"text", "add_special_tokens", "ids", "decoded", "decoded_without_special"}
    {"ids", "decoded", "decoded_without_special"}                 random ids, often broken UTF-8
The last key is left out where it equals "decoded".
Needs: tokenizers, sentencepiece, protobuf, transformers 4 (its LlamaTokenizer is the reference for
tokenizer.model; later versions have another class of that name).
"""

import argparse
import io
import json
import pathlib
import random
import shutil
import tempfile
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
# deepseek-llm: one Split after the other.
DEEPSEEK_PATTERNS = [
    r"[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗ"
    r"ὙὛὝὟ-\x{1F7D}ℂℇℊ-ℓℕℙ-ℝⰀ-ⱻⱾ-ⳤꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇﬀ-ﬆＡ-Ｚａ-ｚ𐐀-𐑏𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
]

# DeepSeek-V3 and R1: digits in threes, CJK and kana, then the rest.
DEEPSEEK_V3_PATTERNS = [
    r"\p{N}{1,3}",
    r"[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]

CORPUS = """
The quick brown fox jumps over the lazy dog while the river runs slowly towards the distant sea.
It's what they've said: we'll see, I'm sure you'd agree, and she doesn't know that he isn't there.
A model reads tokens, not letters; the tokenizer decides what the model sees and how long it takes.
In 1969, 3 people flew 384,400 km; in 2024 the same trip would cost 1,234,567.89 dollars.
def encode(self, text: str) -> list[int]:\n    return [self.vocab[token] for token in self.split(text)]
for (int i = 0; i < n; ++i) {\n\tsum += values[i] * weights[i];\n}\nreturn sum / (double)n;
Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis. Où êtes-vous allés hier soir ?
Der Fluß fließt über größere Höhen; zwölf Boxkämpfer jagen Viktor quer über den großen Deich.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba a su querido cachorro?
Съешь же ещё этих мягких французских булок, да выпей чаю. Широкая электрификация южных губерний.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Η γλώσσα είναι ο δρόμος της σκέψης προς τον κόσμο.
我能吞下玻璃而不伤身体。人工智能的发展速度非常快,模型越来越大,数据越来越多。今天天气很好。
いろはにほへと ちりぬるを。東京は日本の首都であり、世界でも大きな都市の一つです。カタカナも使います。
다람쥐 헌 쳇바퀴에 타고파. 한국어 문장을 토큰으로 나누는 것은 쉽지 않습니다. 안녕하세요 여러분.
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. السلام عليكم.
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שלום לכולם, מה שלומכם היום?
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम।
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน
Tiếng Việt có nhiều dấu thanh: ngày mai trời sẽ nắng đẹp và chúng ta sẽ đi biển. Pijamalı hasta.
Emoji are fun: 😀 😂 🎉 👍🏽 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 and so are ≤ ≥ ≠ ∑ ∫ √ symbols — “quotes” … dashes – here.
""".strip().split("\n")

SPECIALS = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
               "<|eot_id|>", "<|reserved_special_token_0|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "gpt2": ["<|endoftext|>"],
    "sentencepiece": ["<s>", "</s>", "<unk>", "[INST]", "[/INST]"],
}
ALL_SPECIALS = sorted({token for tokens in SPECIALS.values() for token in tokens}
                      | {"<mask>", "<tool>", "naïve", "word", "<0x0A>", "<think>", "</think>", "<tool_call>",
                         "<|user|>", "<|assistant|>", "<|end|>"})


# ---- tokenizers -------------------------------------------------------------------------------

def train_bpe(vocab_size, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def save_bpe(folder, tokenizer, specials, extra_tokens, config, ignore_merges, string_merges):
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tokenizer.add_tokens(extra_tokens)
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = ignore_merges
    if ignore_merges:
        drop_merges(data["model"])
    if string_merges:
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    text = json.dumps(data, ensure_ascii=False, indent=None, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def drop_merges(model):
    """Leaves tokens in the vocabulary that no merge reaches, so that ignore_merges matters."""
    model["merges"] = [m for i, m in enumerate(model["merges"]) if i % 17 != 16]


def byte_level_split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_llama3(folder):
    tokenizer = train_bpe(900, byte_level_split(LLAMA3_PATTERN))
    first = tokenizer.get_vocab_size()
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", first)])])
    save_bpe(folder, tokenizer, SPECIALS["llama3"], [],
             {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
              "tokenizer_class": "PreTrainedTokenizerFast"}, True, False)


def make_qwen2(folder):
    tokenizer = train_bpe(900, byte_level_split(QWEN2_PATTERN), normalizers.NFC())
    extra = [AddedToken("<tool>", normalized=False), AddedToken("naïve", normalized=True),
             AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
             AddedToken("word", single_word=True, normalized=False)]
    save_bpe(folder, tokenizer, SPECIALS["qwen2"], extra,
             {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None,
              "tokenizer_class": "Qwen2Tokenizer"}, False, True)


def make_qwen3(folder):
    """Qwen2's chain; tokens for thoughts and tools that are added but not special."""
    tokenizer = train_bpe(900, byte_level_split(QWEN2_PATTERN), normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False,
                                                    use_regex=False)
    extra = [AddedToken(t, special=False, normalized=False)
             for t in ["<tool_call>", "</tool_call>", "<think>", "</think>"]]
    save_bpe(folder, tokenizer, SPECIALS["qwen2"], extra,
             {"add_bos_token": False, "add_prefix_space": False, "bos_token": None,
              "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
              "tokenizer_class": "Qwen2Tokenizer"}, False, False)


def make_deepseek(folder):
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated")
              for pattern in DEEPSEEK_PATTERNS]
    tokenizer = train_bpe(600, pre_tokenizers.Sequence(
        splits + [pre_tokenizers.Digits(individual_digits=True),
                  pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        normalizers.Sequence([]))
    save_bpe(folder, tokenizer, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], [],
             {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}, False, False)


def make_deepseek_v3(folder):
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated")
              for pattern in DEEPSEEK_V3_PATTERNS]
    tokenizer = train_bpe(600, pre_tokenizers.Sequence(
        splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        normalizers.Sequence([]))
    save_bpe(folder, tokenizer, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"],
             [AddedToken("<tool>", normalized=True, special=False)],
             {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>",
              "add_bos_token": True, "add_eos_token": False}, False, False)


def make_opt(folder):
    """vocab.json and merges.txt without tokenizer.json, as OPT's."""
    tokenizer = train_bpe(500, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
    vocabulary.update({token: i + 4 for token, i in model["vocab"].items()})
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "".join(" ".join(pair) + "\n" for pair in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")

    def token(content):
        return {"__type": "AddedToken", "content": content, "lstrip": False, "normalized": True,
                "rstrip": False, "single_word": False}
    config = {"errors": "replace", "unk_token": token("</s>"), "bos_token": token("</s>"),
              "eos_token": token("</s>"), "pad_token": "<pad>", "add_prefix_space": False,
              "add_bos_token": True, "tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_gpt2(folder):
    tokenizer = train_bpe(500, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    save_bpe(folder, tokenizer, SPECIALS["gpt2"], [],
             {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}, False, False)


def make_sentencepiece(folder, legacy):
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=model, vocab_size=900, model_type="bpe",
        byte_fallback=True, character_coverage=0.98, split_digits=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        user_defined_symbols=["\n\n"] if not legacy else [],
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    (folder / "tokenizer.model").write_bytes(model.getvalue())

    def token(content, special=True, **flags):
        return {"content": content, "lstrip": False, "normalized": False, "rstrip": False,
                "single_word": False, "special": special, **flags}
    decoder = {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>"),
               "900": token("[INST]", special=not legacy), "901": token("[/INST]", special=False)}
    config = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": decoder,
              "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": legacy,
              "tokenizer_class": "LlamaTokenizer"}
    if not legacy:
        config["additional_special_tokens"] = ["[INST]"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_llama2(folder, legacy):
    """tokenizer.json as transformers 4 converts it from tokenizer.model."""
    from transformers import LlamaTokenizerFast
    with tempfile.TemporaryDirectory() as name:
        make_sentencepiece(pathlib.Path(name), legacy)
        tokenizer = LlamaTokenizerFast.from_pretrained(name)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=True), AddedToken("naïve", normalized=True)])
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": legacy}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_phi3(folder):
    """Llama-2's tokenizer.json without BOS; added tokens that take the white space after them."""
    make_llama2(folder, True)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["added_tokens"] = data["added_tokens"][:3]
    data["added_tokens"][2].update(rstrip=True, special=False)
    first = len(data["model"]["vocab"])
    for i, content in enumerate(["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>"]):
        data["added_tokens"].append({"id": first + i, "content": content, "single_word": False,
                                     "lstrip": False, "rstrip": i > 0, "normalized": False,
                                     "special": True})
    data["post_processor"] = {"type": "TemplateProcessing", "special_tokens": {},
                              "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                              "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                                       {"Sequence": {"id": "B", "type_id": 1}}]}
    path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    config = {"add_bos_token": False, "add_eos_token": False, "bos_token": "<s>",
              "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>",
              "legacy": False, "tokenizer_class": "LlamaTokenizer",
              "added_tokens_decoder": {str(t.pop("id")): t for t in data["added_tokens"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_gemma(folder):
    """Spaces become "▁" by a Replace, and text is cut after each, before BPE on characters."""
    make_llama2(folder, True)
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "},
                             "behavior": "MergedWithPrevious", "invert": False}
    data["decoder"]["decoders"] = data["decoder"]["decoders"][:3]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def make_unigram(folder):
    """A unigram model as transformers converts T5's: character map, Metaspace, </s> at the end."""
    import sentencepiece
    from transformers.convert_slow_tokenizer import import_protobuf
    rules = ["C4\t", "FF21\t41", "FF22\t42", "3000\t20", "9\t20", "A\t20", "D A\t20", "D\t20",
             "A0\t20", "65 301\tE9", "61 300\tE0", "FB01\t66 69", "2460\t31", "212B\tC5"]
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write("\n".join(rules) + "\n")
        file.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 3), model_writer=model, vocab_size=500,
            model_type="unigram", character_coverage=0.98, normalization_rule_tsv=file.name,
            num_threads=1, minloglevel=2, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    message = import_protobuf().ModelProto()
    message.ParseFromString(model.getvalue())
    tokenizer = Tokenizer(models.Unigram([(p.piece, p.score) for p in message.pieces], 2, False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(message.normalizer_spec.precompiled_charsmap),
        normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", True)
    tokenizer.decoder = decoders.Metaspace("▁", "always", True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t in ["<pad>", "</s>", "<unk>"]])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def make_albert(folder):
    """A unigram model behind ALBERT's chain of normalizers, as transformers converts it."""
    make_unigram(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
        normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.add_tokens([AddedToken("NAÏVE", normalized=True), AddedToken("<tool>", normalized=True)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


MAKERS = {"llama3": make_llama3, "qwen2": make_qwen2, "qwen3": make_qwen3, "gpt2": make_gpt2,
          "deepseek": make_deepseek, "deepseek_v3": make_deepseek_v3, "opt": make_opt,
          "gemma": make_gemma, "phi3": make_phi3, "unigram": make_unigram, "albert": make_albert,
          "llama2": lambda folder: make_llama2(folder, True),
          "mistral": lambda folder: make_llama2(folder, False),
          "sentencepiece_legacy": lambda folder: make_sentencepiece(folder, True),
          "sentencepiece": lambda folder: make_sentencepiece(folder, False)}


# ---- references -------------------------------------------------------------------------------

class BpeReference:
    """The tokenizers library, with the tokens of tokenizer_config.json added as transformers does."""

    def __init__(self, folder):
        from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast
        has_json = (folder / "tokenizer.json").exists()
        loader = PreTrainedTokenizerFast if has_json else GPT2TokenizerFast
        loaded = loader.from_pretrained(folder)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        self.tokenizer = loaded._tokenizer
        if has_json and config.get("add_bos_token"):  # as later versions of transformers do
            bos = loaded.bos_token
            self.tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                special_tokens=[(bos, loaded.bos_token_id)])
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.vocab_size = self.tokenizer.get_vocab_size()

    def encode_all(self, texts, add_special_tokens):
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def decode_all(self, lists, skip_special_tokens):
        return self.tokenizer.decode_batch(lists, skip_special_tokens=skip_special_tokens)


class SentencePieceReference:
    """LlamaTokenizer of transformers 4 encodes; the decoder of its fast twin decodes."""

    def __init__(self, folder):
        from transformers import LlamaTokenizer
        self.tokenizer = LlamaTokenizer.from_pretrained(folder)
        self.special_ids = set(self.tokenizer.all_special_ids)
        self.vocab_size = len(self.tokenizer)
        self.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                          decoders.Fuse(), decoders.Strip(" ", 1, 0)])

    def encode_all(self, texts, add_special_tokens):
        return [self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
                for text in texts]

    def decode_all(self, lists, skip_special_tokens):
        special = self.special_ids if skip_special_tokens else ()
        return [self.decoder.decode(self.tokenizer.convert_ids_to_tokens(
            [i for i in ids if i not in special])) for ids in lists]


def load_reference(folder):
    is_sentencepiece = (folder / "tokenizer.model").exists()
    return SentencePieceReference(folder) if is_sentencepiece else BpeReference(folder)


# ---- strings ----------------------------------------------------------------------------------

FIXED = [
    "<｜begin▁of▁sentence｜>Hi<｜end▁of▁sentence｜>", " \t x \t \n  \r\n \ty  ",
    "", " ", "  ", "\n", "\r\n", "\t", "\x00", "a", " a", "a ", "\u200b", "\ufeff", "\ufffd",
    "Hello, world!", " Hello", "  Hello", "Hello\n\nworld", "Hello \n \n world", "\n\n\n", "   \n",
    "don't", "DON'T", "I'LL we'Re they'vE", "it’s", "'s 's'S 'ſ 'K", "''''", "x'lly",
    "0", "12", "123", "1234", "1234567890", "３４５", "٣٤٥", "१२३४", "Ⅷ ½ ² ①", "1.5e-10", "0x1F",
    "é e\u0301 \u00c5 A\u030a \u212b", "\u1e9b\u0323", "a\u0300\u0301\u0302 \u0301", "각 \u1100\u1161\u11a8",
    "\u0958 \u0915\u093c", "\u2126 \u03a9 \u1f71 \u03ac", "\uf900 \u8c48", "ﬁ ﬂ Ａ", "\u0344",
    "q\u0307\u0323 q\u0323\u0307", "\u09c7\u09be", "\U0001d15e", "\u115f\u1160",
    "👩‍👩‍👧‍👦👍🏽🇩🇪🏳️‍🌈", "e\u200d\u0301", "z\u0335\u0321\u031b\u0300a\u0336l\u0337g\u0338o",
    "\u202eabc\u202c", "a\u00a0b\u2003c\u3000d\u1680e\u180ef\u2028g\u2029h\u0085i\x0bj\x0ck",
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n", "if (a&&b||!c) { x+=1; }",
    "https://example.com/a?b=c&d=e#f", "user@example.org", "C:\\Users\\x", "<html><body>&amp;</body>",
    "snake_case camelCase SCREAMING_CASE kebab-case", "a" * 100, " " * 70,
    "\n" * 60, "!" * 60, "ab" * 50, "的" * 20, "😀" * 15, "\t \t " * 9, "0" * 37, "'" * 27,
    "<|begin_of_text|>", "<s>", "</s>", "<s>Hello</s>", " <s> Hello </s> ", "<unk>", "<|im_start|>user\nHi<|im_end|>\n",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|eot_id|><|eot_id|>", "<|eot_id|",
    "<|endoftext|>x<|endoftext|>", "[INST] Hi [/INST]", "[INST]Hi[/INST]", "<0x0A>", "▁", "▁▁a", " ▁ a",
    "a <mask> b", "a  <mask>  b", "<mask><mask>", "<mask> <mask>", "\u3000<mask>\n", "<tool>x", "<tool><tool>",
    "word", "a word.", "awordb", "word word", "wordé", "éword", "word_", "_word", "word\u0301", "Ⓐword", "-word-",
    "naïve", "nai\u0308ve", "xnaïvex", "nai\u0308", "[INST]▁x", "<s> x", "<s>  x", "[INST]  ", "  [INST]", "\n\n[INST]\n\n",
    "<|user|>\nHi<|end|>\n<|assistant|>\n", "<|end|>  x <|user|>\u3000y", "</s> \n x", "<think>\n\n</think>\n\nHi",
]


class StringMaker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.words = [word for line in CORPUS for word in line.replace("\\n", "\n").split(" ")]
        self.makers = [self.prose, self.unicode, self.block, self.bytes, self.spaces, self.ascii,
                       self.marks, self.specials, self.digits, self.run, self.mixture, self.cased]

    def make(self):
        return self.random.choice(self.makers)()

    def prose(self):
        count = self.random.randint(1, 12)
        glue = self.random.choice([" ", " ", " ", "  ", "\n", ""])
        return glue.join(self.random.choice(self.words) for _ in range(count))

    def character(self, low=0, high=0x110000):
        while True:
            code = self.random.randrange(low, high)
            if not 0xD800 <= code < 0xE000:
                return chr(code)

    def unicode(self):
        return "".join(self.character() for _ in range(self.random.randint(1, 12)))

    def block(self):
        low = self.random.randrange(0, 0x20000, 0x80)
        low = 0 if 0xD780 <= low < 0xE000 else low
        count = self.random.randint(1, 24)
        return "".join(self.random.choice(["", "", "", " ", "\u0301"]) + self.character(low, low + 0x80)
                       for _ in range(count))

    def bytes(self):
        data = bytes(self.random.randrange(256) for _ in range(self.random.randint(1, 24)))
        return data.decode("utf-8", "replace")

    def spaces(self):
        pool = [" ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u180e", "\u200b", "\u2028",
                "\x0b", "\x85", "a", "é", "1", "!", "'s"]
        return "".join(self.random.choice(pool) for _ in range(self.random.randint(1, 20)))

    def ascii(self):
        return "".join(chr(self.random.randint(0, 127)) for _ in range(self.random.randint(1, 40)))

    def marks(self):
        base = "aeiouncsqzAEO각ᄀ가かはΑαωи\u0915\u09c7\u0dd9"
        marks = ("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030c\u031b\u0323\u0327\u0328"
                 "\u0331\u0338\u0342\u0345\u05b0\u0653\u093c\u09be\u0dca\u0dcf\u1161\u11a8\u3099\u309a\u0f71\u0f74")
        return "".join(self.random.choice(base if self.random.random() < 0.4 else marks)
                       for _ in range(self.random.randint(1, 16)))

    def specials(self):
        parts = []
        for _ in range(self.random.randint(1, 5)):
            token = self.random.choice(ALL_SPECIALS)
            if self.random.random() < 0.15:
                token = token[:self.random.randint(0, len(token))]
            parts.append(token)
            parts.append(self.random.choice(["", " ", "  ", "\n", "x", " hi", "é", self.prose()]))
        return "".join(parts)

    def digits(self):
        pool = "0123456789" * 3 + ".,- ٣४½²Ⅷ①"
        return "".join(self.random.choice(pool) for _ in range(self.random.randint(1, 20)))

    def run(self):
        unit = self.random.choice(["a", " ", "\n", "!", "0", "é", "的", "😀", "ab", "\t ", "'", "e\u0301",
                                   self.character(), self.random.choice(self.words)])
        return unit * self.random.choice([2, 3, 7, 20, 30, 60])

    def mixture(self):
        return self.random.choice(["", " ", "\n"]).join(
            self.random.choice(self.makers[:9])() for _ in range(2))

    def cased(self):
        text = self.prose()
        change = self.random.choice([str.upper, str.title, str.swapcase,
                                     lambda t: unicodedata.normalize("NFD", t),
                                     lambda t: unicodedata.normalize("NFKC", t)])
        return change(text)


# ---- output -----------------------------------------------------------------------------------

def make_texts(maker, count):
    return FIXED + [maker.make() for _ in range(max(0, count - len(FIXED)))]


def golden_lines(reference, texts, random_numbers):
    """Every third text is encoded with special tokens; then random ids, a fifth as many."""
    with_special = reference.encode_all(texts[::3], True)
    without = reference.encode_all([t for i, t in enumerate(texts) if i % 3], False)
    lines = [{"text": text, "add_special_tokens": i % 3 == 0,
              "ids": with_special[i // 3] if i % 3 == 0 else without[i - i // 3 - 1]}
             for i, text in enumerate(texts)]
    size = reference.vocab_size
    for _ in range(len(texts) // 5):
        lines.append({"ids": [random_numbers.randrange(size) if random_numbers.random() < 0.5
                              else random_numbers.randrange(min(300, size))
                              for _ in range(random_numbers.randint(1, 16))]})
    add_decoded(reference, lines)
    return lines


def add_decoded(reference, lines):
    lists = [line["ids"] for line in lines]
    for line, text, plain in zip(lines, reference.decode_all(lists, False),
                                 reference.decode_all(lists, True)):
        line["decoded"] = text
        if plain != text:
            line["decoded_without_special"] = plain


def normalizer_lines(count):
    """What the normalizers of Unicode make of characters of all blocks, marks and cased letters."""
    maker = StringMaker(1)
    texts = ["İI\u0307ıſẞΑΣ ΑΣ\u0301 ǅ Ⅷ Ⓐ Ა", "㋿\ua7f2\U00010781\U0001fbf0½\u00a0ﷺ\U0001ccd6\U0001ccf9\U0001e030\U0001e06d", "\U00011938\U00011935\U00011930",
             "\u1e9b\u0323 \u0958 각 \u1100\u1161\u11a8 e\u08d3\u0301"]
    makers = [maker.unicode, maker.block, maker.marks, maker.cased]
    texts += [makers[i % 4]() for i in range(count)]
    for name in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]:
        normalizer = getattr(normalizers, name)()
        for text in texts:
            yield {"type": name, "text": text, "normalized": normalizer.normalize_str(text)}


def write_lines(path, lines):
    with open(path, "w", encoding="ascii") as out:
        for line in lines:
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=root / "tests/data/tokenizer")
    parser.add_argument("--models", type=pathlib.Path, help="folder of model folders")
    parser.add_argument("--count", type=int, default=150, help="strings a tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one tokenizer")
    args = parser.parse_args()
    if not args.models and not args.only:
        write_lines(args.output / "normalizers.jsonl", normalizer_lines(50))
    names = sorted(p.name for p in args.models.iterdir() if p.is_dir()) if args.models else MAKERS
    for name in names:
        if args.only and name != args.only:
            continue
        folder = args.output / name
        folder.mkdir(parents=True, exist_ok=True)
        if args.models:
            for file in (args.models / name).glob("*token*"):
                shutil.copy(file, folder)
        else:
            MAKERS[name](folder)
        maker = StringMaker(args.seed)
        texts = make_texts(maker, args.count)
        write_lines(folder / "golden.jsonl",
                    golden_lines(load_reference(folder), texts, maker.random))
        print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


if __name__ == "__main__":
    main()
