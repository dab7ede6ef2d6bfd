"""What the code tokeniser keeps, and what it forgets."""

from __future__ import annotations

import pytest

from coembed.nn.tokenizer import SPECIALS, Tokenizer
from coembed_code.samples import SAMPLES
from coembed_code.tokenizer import DEPTHS, code_bpe, pieces

CORPUS = [*SAMPLES] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return code_bpe(CORPUS, 700)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("getUserName", ["get", "User", "Name"]),
        ("get_user_name", ["get", "user", "name"]),
        ("parseHTTPResponse2Go", ["parse", "HTTP", "Response", "2", "Go"]),
        ("MAX_VALUE", ["MAX", "VALUE"]),
        ("_private __init__ a__b", ["_", "private", "__", "init", "__", "a", "b"]),
        ("a+=b**c!=d//e", ["a", "+=", "b", "**", "c", "!=", "d", "//", "e"]),
        ("x->y::z=>w===v", ["x", "->", "y", "::", "z", "=>", "w", "===", "v"]),
        ("f(a, [1.5])", ["f", "(", "a", ",", "[", "1", ".", "5", "]", ")"]),
        ('"""doc"""', ['"""', "doc", '"""']),
        ("naïveÉtat 漢字 😀", ["naïve", "État", "漢字", "😀"]),
        ("if x:\n\treturn\n    # a", ["if", "x", ":", "\n    ", "return", "\n    ", "#", "a"]),
    ],
)
def test_pieces(code, wanted):
    assert pieces(code) == wanted


def test_lowercase_cuts_at_the_seams_first():
    assert pieces("getUserName HTTPServer", lowercase=True) == ["get", "user", "name", "http", "server"]
    assert pieces("userName", lowercase=True) == pieces("user_name", lowercase=True) == ["user", "name"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a=b+c", "a  =  b + c"),
        ("if x:\n\ty", "if x:\n    y"),
        ("x\r\ny", "x\ny"),
        ("x   \n\n\n  \ny\n", "x\ny"),
        ("user_name", "user__name"),
        ("x\u00a0y\x0cz", "x y z"),
    ],
)
def test_what_is_forgotten_gives_the_same_ids(tokenizer, left, right):
    assert tokenizer.ids(left) == tokenizer.ids(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("if x:\n    y", "if x:\n        y"),
        ("x\ny", "x y"),
        ("userName", "username"),
        ("_x", "x"),
        ("a < b", "a <= b"),
        ("ab", "a b"),
        ("    x", "x"),
    ],
)
def test_what_is_kept_gives_other_ids(tokenizer, left, right):
    assert tokenizer.ids(left) != tokenizer.ids(right)


def test_every_depth_is_one_token(tokenizer):
    seen = set()
    for columns in range(DEPTHS + 1):
        row = tokenizer.ids(f"x\n{' ' * columns}y")
        assert len(row) == 5  # [CLS] x depth y [SEP]
        seen.add(row[2])
    assert len(seen) == DEPTHS + 1
    assert len(tokenizer.ids("x\n" + " " * (DEPTHS + 7) + "y")) > 5


def test_merges_do_not_cross_pieces():
    tokenizer = code_bpe(["getName(x)"] * 50, 600)
    tokens = [tokenizer.backend.id_to_token(i) for i in tokenizer.ids("getName(x)")]
    assert tokens == ["[CLS]", "get", "Name", "(", "x", ")", "[SEP]"]


def test_any_text_encodes_and_none_turns_into_a_special_token(tokenizer):
    for text in ("", "\0\x01\x7f", "漢字😀\u202e", "[MASK] [CLS][PAD]", "ĊĠĠ", "\n\n\n"):
        row = tokenizer.ids(text)
        assert (row[0], row[-1]) == (tokenizer.cls, tokenizer.sep)
        assert not set(row[1:-1]) & set(tokenizer.specials)
    assert tokenizer.ids("Ċ") != tokenizer.ids("\n") and SPECIALS[3] == "[MASK]"


def test_unseen_words_fall_back_to_their_bytes(tokenizer):
    for text in ("žluťoučký", "漢字", "###", "x##y"):
        assert tokenizer.decode(tokenizer.ids(text)) == text
    everything = "".join(map(chr, range(0x80, 0x2000)))
    assert len(tokenizer.ids(everything)) > 0x2000 - 0x80 - 200  # nothing is dropped for want of a token


def test_training_is_deterministic_and_saves(tokenizer, tmp_path):
    again = code_bpe(CORPUS, 700)
    assert again.backend.to_str() == tokenizer.backend.to_str()
    again.save(tmp_path)
    assert Tokenizer.load(tmp_path).rows(CORPUS) == tokenizer.rows(CORPUS)


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size=100 is too small.*need 565"):
        code_bpe(CORPUS, 100)
    assert code_bpe(CORPUS, 565).vocab_size == 565
