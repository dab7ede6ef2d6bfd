"""A tokeniser that knows code: identifiers in parts, operators whole, one token for each line's depth.

What it forgets, so that code that means the same looks the same: spaces within a line, blank lines, spaces before a
line's end, tabs (four columns each), the underscore inside `snake_case` and the seam inside `camelCase`. What it keeps:
the line's depth in columns, upper and lower case unless told otherwise, leading and trailing underscores, and every
other character, the unknown ones as bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from coembed.nn.tokenizer import SPECIALS, Tokenizer

__all__ = ["DEPTHS", "code_bpe", "pieces"]

DEPTHS = 48
"""Columns of indentation that are one token each; deeper lines take two or more."""

_INSIDE = "##"  # stands before a token that continues a piece
_OPERATORS = (
    "<<= >>= **= //= ... === !== <=> &&= ||= ??= >>> == != <= >= -> => :: := ** // && || ?? ?. << >> += -= *= /= %= "
    "&= |= ^= ++ -- /* */ ''' \"\"\" </ />"
).split()
_SEAM = r"(?<=[\p{Ll}\p{N}])(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})"
_PIECE = "|".join(
    [
        r"\n *",  # the start of a line, with its depth
        r"^ +",
        r"\p{Lu}+(?=\p{Lu}\p{Ll})",  # HTTP in HTTPServer
        r"\p{Lu}?[\p{Ll}\p{M}]+",
        r"[\p{L}\p{M}]+",  # UPPER, and scripts without case
        r"\p{N}+",
        r"_+",
        *map(re.escape, sorted(_OPERATORS, key=len, reverse=True)),
        r"[\s\S]",
    ]
)


def _normalizer(lowercase: bool) -> normalizers.Sequence:
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(r"\r\n?"), "\n"),
        normalizers.Replace("\t", "    "),
        normalizers.Replace(Regex(r"[^\S\n ]"), " "),
        normalizers.Replace(Regex(r" *\n(?: *\n)*"), "\n"),
        normalizers.Strip(left=False, right=True),
    ]
    if lowercase:  # the seams must be cut before they are lost
        steps += [normalizers.Replace(Regex(_SEAM), " "), normalizers.Lowercase()]
    return normalizers.Sequence(steps)


def _pre_tokenizer() -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"(?<=[^\n ]) +"), "removed"),  # within a line only: after something
            pre_tokenizers.Split(Regex(r"(?<=[\p{L}\p{N}])_+(?=[\p{L}\p{N}])"), "removed"),
            pre_tokenizers.Split(Regex(_PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def pieces(code: str, lowercase: bool = False) -> list[str]:
    """How code is cut before byte-pair encoding, as a reader sees it.

    >>> pieces("def getURLPath(snake_case):\\n    return x != 10")
    ['def', 'get', 'URL', 'Path', '(', 'snake', 'case', ')', ':', '\\n    ', 'return', 'x', '!=', '10']
    """
    text = _normalizer(lowercase).normalize_str(code)
    decoder = decoders.ByteLevel()
    return [decoder.decode([piece]) for piece, _ in _pre_tokenizer().pre_tokenize_str(text)]


def code_bpe(texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2, lowercase: bool = False) -> Tokenizer:
    """Train byte-pair encoding on code; merges never cross the cuts of `pieces`, and the same texts give the same ids.

    Works on bytes, so any text encodes; tokens that continue a piece are told from those that begin one. ValueError
    when `vocab_size` has no room for bytes, depths and special ids. Source: Sennrich et al. 2016, section 3.2.

    >>> tokenizer = code_bpe(["def a(b):\\n    return b"] * 4, 600)
    >>> tokenizer.rows(["a( b )"]) == tokenizer.rows(["a(b)"]), tokenizer.rows(["ab"]) == tokenizer.rows(["a b"])
    (True, False)
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # In the vocabulary from the start: each depth, in the letters that ByteLevel writes "\n" and " " with, and each
    # byte as the continuation of a piece, since spaces are gone and "ab" must not read as "a b".
    fixed = [*SPECIALS, *("Ċ" + "Ġ" * columns for columns in range(DEPTHS + 1)), *(_INSIDE + byte for byte in alphabet)]
    need = len({*fixed, *alphabet})
    if vocab_size < need:
        raise ValueError(f"vocab_size={vocab_size} is too small: bytes, depths and special ids need {need}")
    # ignore_merges: a piece that is in the vocabulary is that token, as the depths must be.
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True, continuing_subword_prefix=_INSIDE))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = _pre_tokenizer()
    backend.decoder = decoders.Sequence([decoders.Replace(Regex(f"^{_INSIDE}"), ""), decoders.ByteLevel()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=_INSIDE,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)
