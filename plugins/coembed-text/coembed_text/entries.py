"""The named checkpoints: facts only, each pinned to the commit it was described at. Standard library only."""

from __future__ import annotations

from coembed.spec import EncoderSpec

_NONE: dict[str, str] = {}
_E5 = {"query": "query: ", "document": "passage: "}  # outside retrieval too: "query: " on both sides
_BGE = {"query": "Represent this sentence for searching relevant passages: ", "document": ""}
_ARCTIC2 = {"query": "query: ", "document": ""}
_NOMIC = {"query": "search_query: ", "document": "search_document: "}

# fmt: off
# name, weights, dim, layers, licence, prompts, sizes it may be cut to, summary
_TRANSFORMERS: tuple[tuple[str, str, int, int, str, dict[str, str], tuple[int, ...], str], ...] = (
    ("minilm", "sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
     384, 6, "Apache-2.0", _NONE, (), "all-MiniLM-L6-v2, 23M: small, general; offline with the extra 'minilm'."),
    ("mpnet", "sentence-transformers/all-mpnet-base-v2@e8c3b32edf5434bc2275fc9bab85f82640a19130",
     768, 12, "Apache-2.0", _NONE, (), "all-mpnet-base-v2, 109M: general English."),
    ("e5-small", "intfloat/e5-small-v2@ffb93f3bd4047442299a41ebb6fa998a38507c52",
     384, 12, "MIT", _E5, (), "E5 small v2, 33M: English retrieval."),
    ("e5-base", "intfloat/e5-base-v2@f52bf8ec8c7124536f0efb74aca902b2995e5bcd",
     768, 12, "MIT", _E5, (), "E5 base v2, 109M: English retrieval."),
    ("e5-large", "intfloat/e5-large-v2@f169b11e22de13617baa190a028a32f3493550b6",
     1024, 24, "MIT", _E5, (), "E5 large v2, 335M: English retrieval."),
    ("multilingual-e5-small", "intfloat/multilingual-e5-small@614241f622f53c4eeff9890bdc4f31cfecc418b3",
     384, 12, "MIT", _E5, (), "Multilingual E5 small, 118M: about 100 languages."),
    ("multilingual-e5-base", "intfloat/multilingual-e5-base@d128750597153bb5987e10b1c3493a34e5a4502a",
     768, 12, "MIT", _E5, (), "Multilingual E5 base, 278M: about 100 languages."),
    ("multilingual-e5-large", "intfloat/multilingual-e5-large@3d7cfbdacd47fdda877c5cd8a79fbcc4f2a574f3",
     1024, 24, "MIT", _E5, (), "Multilingual E5 large, 560M: about 100 languages."),
    ("bge-small", "BAAI/bge-small-en-v1.5@5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
     384, 12, "MIT", _BGE, (), "BGE small en v1.5, 33M: English retrieval."),
    ("bge-base", "BAAI/bge-base-en-v1.5@a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
     768, 12, "MIT", _BGE, (), "BGE base en v1.5, 109M: English retrieval."),
    ("bge-large", "BAAI/bge-large-en-v1.5@d4aa6901d3a41ba39fb536a557fa166f842b0e09",
     1024, 24, "MIT", _BGE, (), "BGE large en v1.5, 335M: English retrieval."),
    ("gte-modernbert", "Alibaba-NLP/gte-modernbert-base@e7f32e3c00f91d699e8c43b53106206bcc72bb22",
     768, 22, "Apache-2.0", _NONE, (), "GTE ModernBERT base, 149M: English, 8,192 tokens."),
    ("modernbert-embed", "nomic-ai/modernbert-embed-base@d556a88e332558790b210f7bdbe87da2fa94a8d8",
     768, 22, "Apache-2.0", _NOMIC, (256,), "ModernBERT Embed base, 149M: English, 8,192 tokens."),
    ("arctic-m", "Snowflake/snowflake-arctic-embed-m-v1.5@e58a8f756156a1293d763f17e3aae643474e9b8a",
     768, 12, "Apache-2.0", _BGE, (256,), "Arctic Embed M v1.5, 109M: English retrieval."),
    ("arctic-l", "Snowflake/snowflake-arctic-embed-l-v2.0@ac6544c8a46e00af67e330e85a9028c66b8cfd9a",
     1024, 24, "Apache-2.0", _ARCTIC2, (256,), "Arctic Embed L v2.0, 568M: multilingual, 8,192 tokens."),
    ("mxbai-large", "mixedbread-ai/mxbai-embed-large-v1@b33106f585b9ce46904ad7443a3b52b7a63e231c",
     1024, 24, "Apache-2.0", _BGE, (512,), "Mixedbread Embed large v1, 335M: English."),
)
# name, weights, dim, licence, summary
_TABLES = (
    ("potion-8m", "minishlab/potion-base-8M@bf8b056651a2c21b8d2565580b8569da283cab23",
     256, "MIT", "potion-base-8M: a static table distilled by model2vec, English."),
    ("potion-retrieval", "minishlab/potion-retrieval-32M@6fc8051fab2a1e0ee76689cf08c853792ac285e7",
     512, "MIT", "potion-retrieval-32M: a static table tuned for retrieval, English."),
    ("potion-multilingual", "minishlab/potion-multilingual-128M@73908c3438cf03b6a01bcb9611d62b23d0726f08",
     256, "MIT", "potion-multilingual-128M: a static table for 101 languages."),
)
# fmt: on

NAMED: tuple[EncoderSpec, ...] = (
    *(
        EncoderSpec(
            name=f"text/{name}",
            modality="text",
            dim=dim,
            layers=layers,
            target="coembed_text.hf:HfText",
            summary=summary,
            license=licence,
            weights=weights,
            prompts=prompts,
            matryoshka=sizes,
            extra="minilm" if name == "minilm" else "",
        )
        for name, weights, dim, layers, licence, prompts, sizes, summary in _TRANSFORMERS
    ),
    *(
        EncoderSpec(
            name=f"text/{name}",
            modality="text",
            dim=dim,
            target="coembed_text.static:StaticText",
            summary=summary,
            license=licence,
            weights=weights,
        )
        for name, weights, dim, licence, summary in _TABLES
    ),
    EncoderSpec(
        name="text/wordllama",
        modality="text",
        dim=256,
        target="coembed_text.static:StaticText",
        kwargs={"model": "package:wordllama"},
        summary="The static table that the package wordllama ships: offline with the extra 'wordllama'.",
        license="MIT",
        matryoshka=(64, 128),
        extra="wordllama",
    ),
)
