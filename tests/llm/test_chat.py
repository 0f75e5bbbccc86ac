"""Chats become the tokens of the checkpoint's template, and nothing in them is silent."""

import subprocess
import sys

import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import chat, testing

TOKENIZER = testing.tokenizer()
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"


def _with_template(template):
    tokenizer = testing.tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_the_system_message_that_the_template_inserts_is_found():
    assert chat.default_system(TOKENIZER) == testing.SYSTEM
    assert chat.default_system(_with_template(PLAIN)) is None


def test_the_inserted_system_message_is_spelt_out():
    user = {"role": "user", "content": "hi"}
    found = chat.messages(TOKENIZER, "hi")
    assert found == [{"role": "system", "content": testing.SYSTEM}, user]
    assert chat.prompt_tokens(TOKENIZER, found) == chat.prompt_tokens(TOKENIZER, [user])


def test_an_empty_system_message_is_not_the_default():
    empty = chat.messages(TOKENIZER, "hi", system="")
    assert empty[0] == {"role": "system", "content": ""}
    default = chat.messages(TOKENIZER, "hi")
    assert chat.prompt_tokens(TOKENIZER, empty) != chat.prompt_tokens(TOKENIZER, default)


def test_a_chats_own_system_message_stays():
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "hi"}]
    assert chat.messages(TOKENIZER, own, system="other") == own


def test_no_system_message_is_possible_only_where_the_template_allows_it():
    with pytest.raises(UserError, match="then inserts 'You are a test"):
        chat.messages(TOKENIZER, "hi", system=None)
    turns = chat.messages(_with_template(PLAIN), "hi", system=None)
    assert turns == [{"role": "user", "content": "hi"}]
    assert chat.messages(_with_template(PLAIN), "hi") == turns


def test_tokens_are_those_of_the_template():
    turns = chat.messages(TOKENIZER, "hi")
    wanted = TOKENIZER.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert chat.prompt_tokens(TOKENIZER, turns) == wanted


def test_prompt_and_completion_meet_where_the_template_puts_them():
    turns = chat.messages(TOKENIZER, "hi")
    answer = {"role": "assistant", "content": "hello you"}
    whole = TOKENIZER.apply_chat_template([*turns, answer], tokenize=True, return_dict=False)
    prompt = chat.prompt_tokens(TOKENIZER, turns)
    completion = chat.completion_tokens(TOKENIZER, "hello you")
    assert completion[-1] == TOKENIZER.eos_token_id
    assert prompt + completion == whole[: len(prompt) + len(completion)]
    assert chat.completion_tokens(TOKENIZER, "hello you", end=False) == completion[:-1]


def test_text_is_without_special_tokens():
    assert chat.text(TOKENIZER, chat.completion_tokens(TOKENIZER, "a <b>  c")) == "a <b>  c"


@pytest.mark.parametrize(
    "bad", [[], [{"role": "user"}], [{"role": "user", "content": 3}], [{"role": "x"}], ["hi"]]
)
def test_what_is_not_a_chat_is_one_line(bad):
    with pytest.raises(UserError, match="message"):
        chat.messages(TOKENIZER, bad)


def test_a_template_that_refuses_a_chat_is_one_line():
    with pytest.raises(UserError, match="refuses the chat: not today"):
        chat.messages(_with_template("{{ raise_exception('not today') }}"), "hi")


def test_a_tokenizer_that_is_missing_or_damaged_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: missing"):
        chat.load_tokenizer(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    assert chat.load_tokenizer(tmp_path).encode("hi") == TOKENIZER.encode("hi")
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        chat.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read") as error:
        chat.load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_pytorch_is_not_needed(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from sublim_jax.llm import chat\n"
        f"t = chat.load_tokenizer({str(tmp_path)!r})\n"
        "print(chat.prompt_tokens(t, chat.messages(t, 'hi')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = chat.prompt_tokens(TOKENIZER, chat.messages(TOKENIZER, "hi"))
    assert done.stdout.strip() == str(wanted)
