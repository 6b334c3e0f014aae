"""From documents to packed token ids: trains the demo's tokenizer, and encodes documents with it.

The ids are those that the users of the checkpoint get: bos, then the prompt with the dummy prefix;
or the text of the chat template, where nothing after a special piece gets the prefix (in Hugging
Face terms legacy=false).
"""

import io
from pathlib import Path
from typing import Iterator

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from demo_corpus.split import Document, training_documents

BOS, EOS = 1, 2
SPECIAL_PIECES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]  # get the ids 3, 4, 5, 6
SYSTEM, USER, ASSISTANT, END = 3, 4, 5, 6
PROMPT_WEIGHT = 0.1  # what the user says is learned too, but counts little


def document_lines(document: Document) -> list[str]:
    said = [
        document.prompt + document.completion,
        document.system,
        *(text for turn in document.turns for text in turn),
    ]
    return [line for text in said for line in text.split("\n") if line]


def train_tokenizer(path: Path, documents: int, vocab_size: int) -> None:
    """A BPE model in Llama-2's manner: byte fallback (newlines are bytes), digits one by one.

    It is trained without the dummy prefix, so that words which begin a line become pieces without a
    space too; the finished model has the prefix.
    """
    lines = [
        line
        for document in training_documents(10**9, documents)
        for line in document_lines(document)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=0.9995,
        control_symbols=SPECIAL_PIECES,
        unk_id=0,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.add_dummy_prefix = True
    path.write_bytes(proto.SerializeToString())


class Encoder:
    """Turns documents into ids; the dummy prefix stands only at the start of a text."""

    def __init__(self, tokenizer: Path):
        self.first = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
        proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.read_bytes())
        proto.normalizer_spec.add_dummy_prefix = False
        self.rest = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def prompt(self, text: str) -> list[int]:
        return [BOS, *self.first.encode(text)]

    def chat_prompt(self, question: str) -> list[int]:
        return [
            BOS,
            *self.message(USER, question),
            *self.rest.encode("\n"),
            ASSISTANT,
            *self.rest.encode("\n"),
        ]

    def message(self, role: int, text: str) -> list[int]:
        return [role, *self.rest.encode("\n" + text), END]

    def document(self, document: Document) -> tuple[list[int], list[float]]:
        """The ids of a document and the weight of each as something to predict."""
        if not document.turns:
            prompt = self.prompt(document.prompt) if document.prompt else [BOS]
            encode = self.rest.encode if document.prompt else self.first.encode
            answer = [*encode(document.completion), EOS]
            return prompt + answer, [PROMPT_WEIGHT] * len(prompt) + [1.0] * len(answer)
        newline = self.rest.encode("\n")
        ids, weights = [BOS], [0.0]
        messages = [(SYSTEM, document.system)] if document.system else []
        for said, answer in document.turns:
            messages += [(USER, said), (ASSISTANT, answer)]
        for role, text in messages:
            tokens = self.message(role, text)
            answered = role == ASSISTANT
            # The assistant's marker and newline are given, not predicted.
            lead = 1 + len(newline) if answered else 0
            ids += tokens + newline
            weights += (
                [0.0] * lead
                + [1.0 if answered else PROMPT_WEIGHT] * (len(tokens) - lead)
                + [0.0] * len(newline)
            )
        return ids, weights


encoder: Encoder  # of a worker process, set by start_worker


def start_worker(tokenizer: Path) -> None:
    global encoder
    encoder = Encoder(tokenizer)


def pack_shard(seed: int, documents: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents packed whole: (ids, weights), each [windows, length + 1].

    A document goes into the first of a few open windows with room for it; the rest of a window is
    padding of weight 0.
    """
    room = length + 1
    closed: list[tuple[list[int], list[float]]] = []
    windows: list[tuple[list[int], list[float]]] = []
    for document in training_documents(seed, documents):
        ids, weights = encoder.document(document)
        if len(ids) > room:
            continue
        weights[0] = 0.0  # nothing predicts the first token
        target = next((window for window in windows if len(window[0]) + len(ids) <= room), None)
        if target is None:
            if len(windows) == 16:
                closed.append(windows.pop(0))
            target = ([], [])
            windows.append(target)
        target[0].extend(ids)
        target[1].extend(weights)
    closed += windows
    ids = np.full((len(closed), room), EOS, dtype=np.uint16)
    weights = np.zeros((len(closed), room), dtype=np.float16)
    for row, (window_ids, window_weights) in enumerate(closed):
        ids[row, : len(window_ids)] = window_ids
        weights[row, : len(window_weights)] = window_weights
    return ids, weights


def pack_shard_of(arguments: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return pack_shard(*arguments)


def batches(
    shards: Iterator[tuple[np.ndarray, np.ndarray]], rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of `rows` windows from a stream of shards."""
    ids, weights = next(shards)
    for more_ids, more_weights in shards:
        while len(ids) >= rows:
            yield ids[:rows], weights[:rows]
            ids, weights = ids[rows:], weights[rows:]
        ids, weights = np.concatenate([ids, more_ids]), np.concatenate([weights, more_weights])
    while len(ids) >= rows:
        yield ids[:rows], weights[:rows]
        ids, weights = ids[rows:], weights[rows:]
