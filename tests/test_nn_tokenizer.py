"""Tokenisers: round trips, determinism, and nothing lost in silence."""

from __future__ import annotations

import pickle

import pytest
import tokenizers
from tokenizers import models

from coembed.nn.tokenizer import (
    SPECIALS,
    Tokenizer,
    bpe,
    build_tokenizer,
    bytes_tokenizer,
    characters,
    kmers,
    pad_rows,
    words,
)

CORPUS = [
    f"the {a} {b} sat on the mat, def {a}_{b}(x): return x" for a in ("red", "blue") for b in ("cat", "hat", "bat")
]
ODD = ["", " ", "a  b\n\tc ", "naïve café", "日本語 😀", "\x00\x01", "[MASK] [CLS]", "A" * 300]
GENOME = ["ACGTACGTTTACG" * 4, "TTTACGACGT" * 5]

MAKERS = {
    "bytes": bytes_tokenizer,
    "bpe": lambda: bpe(CORPUS, 280),
    "bpe-bases": lambda: bpe(GENOME, 20, alphabet="ACGT"),
    "words": lambda: words(CORPUS, 50),
    "characters": lambda: characters("ACGT"),
    "kmers": lambda: kmers(3),
}
ALL = pytest.mark.parametrize("name", list(MAKERS))


@pytest.mark.parametrize("name", ["bytes", "bpe"])
@pytest.mark.parametrize("text", ODD)
def test_byte_level_round_trips_any_text(name, text):
    tokenizer = MAKERS[name]()
    ids = tokenizer.ids(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk not in ids
    assert (ids[0], ids[-1]) == (tokenizer.cls, tokenizer.sep)


@pytest.mark.parametrize("name", ["bpe-bases", "characters", "kmers"])
@pytest.mark.parametrize("text", ["", "A", "ACGTACG", "TTTACGACGTACGTAC"])
def test_sequences_round_trip(name, text):
    tokenizer = MAKERS[name]()
    assert tokenizer.decode(tokenizer.ids(text)) == text


def test_bytes_are_bytes():
    tokenizer = bytes_tokenizer()
    assert tokenizer.vocab_size == 261
    for text in ODD:
        assert tokenizer.lengths([text]) == [len(text.encode()) + 2]


@ALL
def test_an_empty_string_is_cls_and_sep(name):
    tokenizer = MAKERS[name]()
    assert tokenizer.ids("") == [tokenizer.cls, tokenizer.sep]


@ALL
def test_special_ids_are_five_and_text_cannot_spell_them(name):
    tokenizer = MAKERS[name]()
    assert tokenizer.specials == (0, 1, 2, 3, 4)
    inner = [i for special in (*SPECIALS, *ODD) for i in tokenizer.ids(special)[1:-1]]
    assert inner and not {tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask} & set(inner)
    assert max(inner) < tokenizer.vocab_size


@ALL
def test_encode_pads_on_the_right_and_agrees_with_ids(name):
    tokenizer = MAKERS[name]()
    texts = ["ACGTAC", "", "ACG the cat"]
    ids, mask = tokenizer.encode(texts)
    assert mask.sum(1).tolist() == tokenizer.lengths(texts) == [len(tokenizer.ids(text)) for text in texts]
    for row, real, text in zip(ids, mask, texts, strict=True):
        assert row[real].tolist() == tokenizer.ids(text)
        assert (row[~real] == tokenizer.pad).all() and real.tolist() == sorted(real.tolist(), reverse=True)


def test_cutting_keeps_the_end_mark_and_is_counted():
    tokenizer = bytes_tokenizer()
    texts = ["abc", "abcd", "abcde", ""]
    ids, mask = tokenizer.encode(texts, max_length=6)
    assert mask.sum(1).tolist() == [5, 6, 6, 2]
    assert [tokenizer.decode(row) for row in ids.tolist()] == ["abc", "abcd", "abcd", ""]
    assert ids[2, 5] == tokenizer.sep
    assert tokenizer.overlong(texts, 6) == 1 and tokenizer.overlong(texts, 7) == 0
    with pytest.raises(ValueError, match="max_length=1"):
        tokenizer.encode(texts, max_length=1)


def test_no_texts_give_no_rows():
    ids, mask = bytes_tokenizer().encode([])
    assert ids.shape == mask.shape == (0, 0)
    assert pad_rows([[]], 0)[0].shape == (1, 0)


@ALL
def test_saved_and_loaded_and_pickled_are_the_same(name, tmp_path):
    tokenizer = MAKERS[name]()
    tokenizer.save(tmp_path)
    tokenizer.save(tmp_path / "own.json")
    for other in (
        Tokenizer.load(tmp_path),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        Tokenizer.load(tmp_path / "own.json"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert other.backend.to_str() == tokenizer.backend.to_str()
        assert other.rows(CORPUS + ODD + GENOME) == tokenizer.rows(CORPUS + ODD + GENOME)
        assert other.specials == tokenizer.specials


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not"):
        Tokenizer.load(tmp_path)


def test_a_vocabulary_without_special_tokens_is_named():
    with pytest.raises(ValueError, match=r"lacks \[PAD\]"):
        Tokenizer(tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))


@pytest.mark.parametrize("make", [MAKERS["bpe"], MAKERS["words"], MAKERS["bpe-bases"]])
def test_training_is_deterministic(make):
    assert len({make().backend.to_str() for _ in range(5)}) == 1


def test_bpe_learns_and_keeps_to_its_size():
    tokenizer = bpe(CORPUS, 280)
    assert tokenizer.vocab_size == 280 > bpe(CORPUS, 10_000).vocab_size - 50
    assert tokenizer.lengths(["the cat sat"]) < bytes_tokenizer().lengths(["the cat sat"])
    assert bpe(CORPUS, 300, lowercase=True).ids("THE Cat") == bpe(CORPUS, 300, lowercase=True).ids("the cat")
    with pytest.raises(ValueError, match="alone need 261"):
        bpe(CORPUS, 260)


def test_bpe_over_an_alphabet_knows_nothing_else():
    tokenizer = bpe([*GENOME, "ACGNNNN" * 9], 20, alphabet="ACGT")
    assert set("".join(tokenizer.backend.get_vocab().keys() - set(SPECIALS))) == set("ACGT")
    assert tokenizer.ids("ANA") == [1, tokenizer.ids("A")[1], tokenizer.unk, tokenizer.ids("A")[1], 2]
    assert tokenizer.lengths(["ACGTACGT"])[0] < 10


def test_kmers_stand_side_by_side_and_start_again_after_a_stranger():
    tokenizer = kmers(3)
    assert tokenizer.vocab_size == 64 + 4 + 5
    names = tokenizer.backend.id_to_token
    assert [names(i) for i in tokenizer.ids("ACGTTTAC")[1:-1]] == ["ACG", "TTT", "A", "C"]
    assert [names(i) for i in tokenizer.ids("ACGANACGT")[1:-1]] == ["ACG", "A", "[UNK]", "ACG", "T"]
    for k, alphabet, message in [(1, "ACGT", "k=1"), (11, "ACGT", "k=11"), (2, "AC[", "leave it out")]:
        with pytest.raises(ValueError, match=message):
            kmers(k, alphabet)


@pytest.mark.parametrize("alphabet", ["-^]\\A", "A-Z"])
def test_an_alphabet_of_signs_is_taken_literally(alphabet):
    tokenizer = kmers(2, alphabet)
    text = "".join(dict.fromkeys(alphabet)) * 2
    assert tokenizer.unk not in tokenizer.ids(text) and tokenizer.decode(tokenizer.ids(text)) == text
    assert tokenizer.lengths([text]) == [len(text) // 2 + 2]
    assert tokenizer.ids("QQ")[1:-1] == [tokenizer.unk, tokenizer.unk]


def test_characters_make_no_difference_between_known_and_unknown_length():
    tokenizer = characters("ACGT")
    assert tokenizer.vocab_size == 9
    assert tokenizer.ids("A\nN")[1:-1] == [5, tokenizer.unk, tokenizer.unk]


def test_words_are_counted_and_strangers_unknown():
    tokenizer = words(["b a c a b a"], 7)
    assert [tokenizer.backend.id_to_token(i) for i in range(5, 7)] == ["a", "b"]
    assert tokenizer.ids("A b c")[1:-1] == [5, 6, tokenizer.unk]


@pytest.mark.parametrize("name", ["bytes", "bpe", "words"])
def test_word_ids_go_with_ids(name):
    tokenizer = MAKERS[name]()
    ids, owners = tokenizer.ids("the cat"), tokenizer.word_ids("the cat")
    assert len(ids) == len(owners) and owners[0] == owners[-1] == -1
    assert sorted(set(owners[1:-1])) == [0, 1] and owners[1:-1] == sorted(owners[1:-1])


@pytest.mark.parametrize("name", ["bytes", "words"])
def test_what_is_no_text_is_an_error_that_says_where(name):
    tokenizer = MAKERS[name]()
    with pytest.raises(ValueError, match="text 1 is not valid Unicode"):
        tokenizer.encode(["fine", "a\ud800b"])
    with pytest.raises(TypeError, match="wrap it in a list"):
        tokenizer.encode("fine")
    with pytest.raises(ValueError, match="text 1 is not valid Unicode"):
        bpe(["fine", "\ud800"], 300)


def test_one_word_names_a_tokenizer():
    assert build_tokenizer("bytes").vocab_size == 261
    assert build_tokenizer("characters", "ACGT").vocab_size == 9
    assert build_tokenizer("kmers:2", "ACGT").vocab_size == 25
    assert build_tokenizer("bpe:300") is None and build_tokenizer("words:9") is None
    assert build_tokenizer("bpe:300", texts=CORPUS).backend.to_str() == bpe(CORPUS, 300).backend.to_str()
    assert build_tokenizer("words:9", texts=CORPUS).vocab_size == 9
    for kind, alphabet in [("byte", None), ("kmers:2", None), ("characters", ""), ("bpe", None), ("bpe:many", None)]:
        with pytest.raises(ValueError, match="is unknown"):
            build_tokenizer(kind, alphabet)
