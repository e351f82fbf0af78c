import numpy as np
import pytest

from research.data.text.dialogue import Template, dialogue_rows, encode_dialogue, preference_rows, prompt_of
from research.errors import UserError
from research.fields import targets

ASK, REPLY = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
TEMPLATE = Template(system="{}|", user="U{};", assistant="A{}.")


def encode(text):
    return [ord(c) for c in text]


def text_of(tokens):
    return "".join(map(chr, tokens))


def test_a_dialogue_is_its_template_and_only_responses_are_marked():
    turns = [{"role": "system", "content": "be"}, ASK, REPLY, ASK, {"role": "assistant", "content": "bye"}]
    tokens, response = encode_dialogue(turns, encode=encode, template=TEMPLATE)
    assert text_of(tokens) == "be|Uhi;Ayo.Uhi;Abye."
    assert text_of(tokens[response == 1]) == "yo.bye."
    _, last = encode_dialogue(turns, encode=encode, template=TEMPLATE, last_only=True)
    assert text_of(tokens[last == 1]) == "bye."
    assert prompt_of(turns[:2], template=TEMPLATE) == "be|Uhi;A"


def test_packed_rows_hold_every_token_with_its_mark():
    dialogues = [[ASK, REPLY], [ASK], [{**ASK, "content": "x" * 4}, REPLY], []]
    rows = dialogue_rows(dialogues, 12, encode=encode, template=TEMPLATE)
    real = rows.columns["segments"] > 0
    assert rows.columns["tokens"].shape[1] == 12 and not rows.columns["tokens"][~real].any()
    everything = "".join(text_of(encode_dialogue(d, encode=encode, template=TEMPLATE).tokens) for d in dialogues)
    assert sorted(text_of(rows.columns["tokens"][real])) == sorted(everything)
    labels, weights = (np.asarray(x) for x in targets(rows.columns))
    assert sorted(text_of(labels[weights > 0])) == sorted("yo." * 2)


def test_pairs_share_the_prompt():
    history = [ASK, REPLY, ASK]
    rows = preference_rows([history], ["good"], ["b"], length=24, encode=encode, template=TEMPLATE)
    row = rows[0]
    assert [text_of(t[s > 0]) for t, s in zip(row["tokens"], row["segments"], strict=True)] == [
        "Uhi;Ayo.Uhi;Agood.", "Uhi;Ayo.Uhi;Ab.",
    ]  # fmt: skip
    assert [text_of(t[r > 0]) for t, r in zip(row["tokens"], row["response"], strict=True)] == ["good.", "b."]
    np.testing.assert_array_equal(row["positions"], np.tile(np.arange(24), (2, 1)))


def test_what_cannot_be_encoded_is_an_error():
    with pytest.raises(UserError, match="unknown role 'asistant'.*'assistant'"):
        encode_dialogue([{"role": "asistant", "content": ""}], encode=encode)
    with pytest.raises(UserError, match="the template of user is 'U'"):
        encode_dialogue([ASK], encode=encode, template=Template(user="U"))
    with pytest.raises(UserError, match="no dialogue has a turn of the assistant"):
        dialogue_rows([[ASK]], 8, encode=encode)
    with pytest.raises(UserError, match="pair 0 has 25 tokens; expected at most length=4"):
        preference_rows([[ASK]], ["good"], ["b"], length=4, encode=encode)
    with pytest.raises(UserError, match="no pairs"):
        preference_rows([], [], [], length=4, encode=encode)
