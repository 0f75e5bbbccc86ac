"""The tokenizer of a GGUF file cuts texts as those of transformers do."""

import itertools
import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat, gguf_tokenizer
from tests.llm.files.test_gguf import complaint, write

TEXTS = (
    "Hello world, it's 12345 o'clock.\n\n  Two  spaces\tand a tab \n \n",
    "  leading, 3 trailing   ",
    "x=1;y=22; z = 333 + 4444 - 55555.5 we'll DON'T",
    "Ünïcödé naïve 漢字かな 🙂🙂 \u00a0 ½ ٣٤",
    "cafe\u0301 e\u0301",  # not composed
    "<|im_start|>user\nhi 7<|im_end|>\n<think> so </think>",
    "",
)
NUMBERS = ("12345", "123", "12345", "55", "1234567")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def trained(cut):
    """Returns the metadata of a byte tokenizer whose tokens reach over every pattern's cuts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([*TEXTS[:5], *NUMBERS] * 3, trainer)
    vocabulary = sorted(backend.get_vocab(), key=backend.get_vocab().get)
    merges = [" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    tokens = [*vocabulary, *SPECIAL, *ADDED]
    return {
        "model": "gpt2",
        "pre": cut,
        "tokens": tokens,
        "token_type": [1] * len(vocabulary) + [3] * 3 + [4] * 2,
        "merges": merges,
        "bos_token_id": tokens.index("<|endoftext|>"),
        "eos_token_id": tokens.index("<|im_end|>"),
        "padding_token_id": tokens.index("<|endoftext|>"),
    }


def pieces():
    """Returns the metadata of a SentencePiece tokenizer, as TinyLlama's."""
    words = ["▁Hello", "▁world", "Hel", "lo", "▁▁", "12", "234", "ll", "▁w", "or", "he", "▁H", "ld"]
    letters = sorted(set("▁" + "".join(TEXTS[:3])) - {" ", "\n", "\t"})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *letters, *words]
    tokens += ["He", "▁Hel", "wor", "▁wor"]
    kinds = [2, 3, 3, *[6] * 256] + [1] * (len(tokens) - 259)
    return {
        "model": "llama",
        "tokens": tokens,
        "token_type": kinds,
        "scores": [-float(i % 97) for i in range(len(tokens))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def written(folder, words, template=TEMPLATE):
    extra = {"tokenizer.chat_template": template} if template else {}
    return write(folder / "a.gguf", family="llama", words=words, extra=extra)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


CUTS = sorted(gguf_tokenizer._CUTS)


@pytest.mark.parametrize("cut", CUTS)
def test_text_comes_back_and_tokens_that_are_added_stay_whole(tmp_path, cut):
    words = trained(cut)
    tokenizer = chat.load_tokenizer(written(tmp_path, words))
    for text in TEXTS:
        wanted = normalizers.NFC().normalize_str(text) if cut == "qwen2" else text
        assert tokenizer.decode(ids(tokenizer, text)) == wanted
        assert chat.text(tokenizer, ids(tokenizer, text)) == wanted.replace(
            "<|im_start|>", ""
        ).replace("<|im_end|>", "")
    start, end = (words["tokens"].index(token) for token in ("<|im_start|>", "<think>"))
    assert start in ids(tokenizer, TEXTS[5])
    assert end in ids(tokenizer, TEXTS[5])
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


@pytest.mark.parametrize(
    ("cut", "digits"), [("qwen2", 1), ("smollm", 1), ("llama-bpe", 3), ("gpt-2", 5)]
)
def test_digits_are_cut_as_the_kind_says(tmp_path, cut, digits):
    words = trained(cut)
    assert "12345" in words["tokens"]
    found = ids(chat.load_tokenizer(written(tmp_path, words)), "12345")
    lengths = [len(words["tokens"][i]) for i in found]
    assert max(lengths) <= digits
    assert cut in ("qwen2", "smollm") or max(lengths) > 1


def test_smollm_cuts_as_its_tokenizer_json_does(tmp_path):
    words = trained("smollm")
    vocab = {token: i for i, token in enumerate(words["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in words["merges"]]
    wanted = Tokenizer(models.BPE(vocab, merges))
    wanted.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    )
    wanted.add_special_tokens(SPECIAL)
    wanted.add_tokens(ADDED)
    tokenizer = chat.load_tokenizer(written(tmp_path, words))
    for text in TEXTS:
        assert ids(tokenizer, text) == wanted.encode(text).ids


def test_a_first_token_is_added_where_the_file_says_so(tmp_path):
    words = trained("llama-bpe")
    plain = chat.load_tokenizer(written(tmp_path, words))
    assert plain("hi").input_ids == ids(plain, "hi")
    added = chat.load_tokenizer(written(tmp_path, words | {"add_bos_token": True}))
    assert added("hi").input_ids == [words["bos_token_id"], *ids(plain, "hi")]
    assert ids(added, "hi") == ids(plain, "hi")


@pytest.mark.parametrize(("cut", "whole"), [("llama-bpe", True), ("gpt-2", False)])
def test_a_word_that_is_a_token_needs_no_merges_in_llama_3(tmp_path, cut, whole):
    words = trained(cut)
    words |= {"tokens": [*words["tokens"], "zqzq"], "token_type": [*words["token_type"], 1]}
    found = ids(chat.load_tokenizer(written(tmp_path, words)), "zqzq")
    assert (found == [len(words["tokens"]) - 1]) == whole


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pre": "tekken"}, "a tokenizer of the kind 'gpt2', 'tekken': llama is supported, and"),
        ({"pre": None}, "a tokenizer of the kind 'gpt2', None"),
        ({"model": "t5"}, "a tokenizer of the kind 't5'"),
        ({"merges": ["q zz"]}, "cannot be read: .*zz"),
        ({"merges": None}, "cannot be read: KeyError.'merges'"),
        ({"eos_token_id": 10_000}, "cannot be read: IndexError"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, changes, says):
    words = {k: v for k, v in (trained("gpt-2") | changes).items() if v is not None}
    file = written(tmp_path, words)
    assert complaint(chat.load_tokenizer, file).startswith(f"{file}: ")
    with pytest.raises(UserError, match=says):
        chat.load_tokenizer(file)


def test_a_file_without_a_template_is_refused(tmp_path):
    file = written(tmp_path, trained("gpt-2"), template=None)
    assert "no chat template" in complaint(chat.load_tokenizer, file)


def merged(words, text):
    """Returns SentencePiece's tokens of a text: of all neighbours, the best pair is merged."""
    scores = dict(zip(words["tokens"], words["scores"], strict=True))
    parts = list(text)
    while True:
        pairs = [(scores.get(a + b), -i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        best = max((pair for pair in pairs if pair[0] is not None), default=None)
        if best is None:
            break
        i = -best[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [
        token
        for part in parts
        for token in ([part] if part in scores else [f"<0x{b:02X}>" for b in part.encode()])
    ]


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_are_merged_by_their_scores(tmp_path, prefix):
    words = pieces() | {"add_space_prefix": prefix}
    tokenizer = chat.load_tokenizer(written(tmp_path, words))
    for text in TEXTS[:5]:
        assert tokenizer.decode(ids(tokenizer, text)) == text
    for text in TEXTS[:4]:
        found = [words["tokens"][i] for i in ids(tokenizer, text)]
        assert found == merged(words, ("▁" if prefix and text else "") + text.replace(" ", "▁"))
    assert tokenizer("12").input_ids[0] == 1  # unless the file says otherwise, as llama.cpp does


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
class TestTransformers:
    def theirs(self, file):
        import transformers

        return transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)

    @pytest.mark.parametrize("cut", ["gpt-2", "qwen2", "llama-bpe"])
    def test_tokens_are_theirs(self, tmp_path, cut):
        file = written(tmp_path, trained(cut))
        ours, theirs = chat.load_tokenizer(file), self.theirs(file)
        for text in TEXTS:
            if cut == "qwen2":  # composed by Qwen's own tokenizer, not by their reading of GGUF
                text = normalizers.NFC().normalize_str(text)
            assert ids(ours, text) == ids(theirs, text)
        turns = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": "3"}]
        rendered = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        assert chat.prompt_tokens(ours, turns) == rendered

    def test_qwen_composes_characters(self, tmp_path):
        import transformers

        words = trained("qwen2")
        vocab = {token: i for i, token in enumerate(words["tokens"])}
        merges = [tuple(merge.split(" ")) for merge in words["merges"]]
        theirs = transformers.Qwen2Tokenizer(vocab, merges)
        ours = chat.load_tokenizer(written(tmp_path, words))
        for text in TEXTS[:5]:
            assert ids(ours, text) == ids(theirs, text)

    def test_pieces_are_theirs(self, tmp_path):
        file = written(tmp_path, pieces())
        ours, theirs = chat.load_tokenizer(file), self.theirs(file)
        for text in (*TEXTS[:1], *TEXTS[2:5]):  # they add no space before one: llama.cpp does
            assert ids(ours, text) == ids(theirs, text)
