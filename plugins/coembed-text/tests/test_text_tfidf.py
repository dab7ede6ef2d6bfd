"""`text/tfidf`: terms, weights against an independent implementation, hashing, saving."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import coembed
from coembed import BadItem
from coembed_text.terms import split_words, terms
from coembed_text.tfidf import TfIdf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_retry_count", "max retry count"),
        ("parseHTTPResponse", "parse http response"),
        ("HTTPServer __init__ XMLHttpRequest2", "http server init xml http request 2"),
        ("utf8 SHA-256 x86_64", "utf 8 sha 256 x 86 64"),
        ("Größe naïve ΑΒΓαβγ ПриветМир", "grösse naïve αβ γαβγ привет мир"),
        ("東京の天気 ok", "東 京 の 天 気 ok"),
        ("don't ... !!", "don t"),
        ("ﬁle STRASSE Straße straße", "file strasse strasse strasse"),
        ("", ""),
    ],
)
def test_words(text, words):
    assert split_words(text) == words.split()


def test_terms_are_words_and_letters_within_words():
    assert list(terms("get_name", 2)) == ["get", "name", "get name"]
    assert set(terms("cat", 0, 3)) == {"#^ca", "#cat", "#at$"}
    assert set(terms("cat", 1, 3)) > set(terms("cat", 1))


def test_weights_equal_scikit_learn(docstrings):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    reference = text.TfidfVectorizer(analyzer=lambda t: list(terms(t, 2)), sublinear_tf=True)
    expected = torch.tensor(reference.fit_transform(docstrings[:100]).toarray(), dtype=torch.float32)
    encoder = coembed.load("text/tfidf", words=2, chars=0, hashed=False, dim=expected.shape[1]).fit(docstrings[:100])
    order = [reference.vocabulary_[term] for term in encoder.vocabulary]
    assert encoder.encode(docstrings[:100]).vectors.sub(expected[:, order]).abs().max() < 1e-6


def test_hashing_is_close_to_a_column_a_term(docstrings):
    texts = docstrings[:200]
    exact = coembed.load("text/tfidf", hashed=False, dim=60_000).fit(texts).encode(texts).vectors
    hashed = coembed.load("text/tfidf", dim=16_384).fit(texts).encode(texts).vectors
    assert (exact @ exact.T - hashed @ hashed.T).abs().max() < 0.1


def test_rare_words_weigh_more_once_fitted():
    encoder = coembed.load("text/tfidf", chars=0)
    rows = ["the quick fox", "the lazy fox", "the quick dog"]
    plain = encoder.encode(rows).vectors
    assert torch.allclose(plain[0] @ plain[1], plain[0] @ plain[2])  # unfitted: every word counts alike
    encoder.fit([*rows, "a fox", "one fox", "two fox"])
    fitted = encoder.encode(rows).vectors
    assert fitted[0] @ fitted[2] > fitted[0] @ fitted[1]  # quick is rarer than fox


def test_the_hash_is_the_same_in_every_process():
    code = "from coembed_text.terms import term_hash; print(term_hash('cat'), term_hash('größe'))"
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env) for env in seeds]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.split()[0] == b"3686158003148265519"  # a saved encoder must mean the same tomorrow


@pytest.mark.parametrize("hashed", [True, False])
def test_saved_and_opened(tmp_path, docstrings, hashed):
    encoder = coembed.load("text/tfidf", words=2, hashed=hashed, dim=500).fit(docstrings[:50])
    encoder.save(tmp_path)
    again = TfIdf.open(encoder.spec, tmp_path)
    assert again.fingerprint() == encoder.fingerprint() and again.dim == 500
    assert torch.equal(again.encode(docstrings[50:60]).values, encoder.encode(docstrings[50:60]).values)
    assert coembed.load("text/tfidf", dim=500).fingerprint() != encoder.fingerprint()


def test_edges():
    encoder = coembed.load("text/tfidf")
    assert list(encoder.parameters()) == [] and encoder.encode([]).values.shape == (0, 1, 4096)
    x = encoder.encode(["", "word", "!?"])
    assert x.present.all() and not x.vectors[[0, 2]].any() and x.vectors[1].norm().sub(1).abs() < 1e-6
    with pytest.raises(BadItem, match="item 1"):
        encoder.encode(["a", None])
    with pytest.raises(BadItem, match="item 0"):
        encoder.fit([b"bytes"])
    with pytest.raises(ValueError, match="fit needs at least one text"):
        encoder.fit([])
    with pytest.raises(ValueError, match="words=0, chars=0 give no terms"):
        coembed.load("text/tfidf", words=0, chars=0)
    with pytest.raises(ValueError, match="call fit"):
        coembed.load("text/tfidf", hashed=False).encode(["a"])
