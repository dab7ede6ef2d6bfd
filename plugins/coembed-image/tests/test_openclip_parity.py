"""The vectors of open_clip's own encode_image and encode_text, for every way of pooling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from coembed import EncoderSpec
from coembed_image.openclip_image import OpenClipImage
from coembed_image.openclip_text import OpenClipText
from coembed_image.pictures import samples
from coembed_image.read import read_image

IMAGE = EncoderSpec(
    name="image/openclip", modality="image", dim=None, target="coembed_image.openclip_image:OpenClipImage"
)
TEXT = EncoderSpec(
    name="image/openclip-text", modality="text", dim=None, target="coembed_image.openclip_text:OpenClipText"
)
TEXTS = ["a red heart", "Two dogs run through deep snow, and a third one watches them from the window", "x", ""]
Published = Callable[..., tuple[Any, Path]]

ATTENTION = {"attn_pooler_queries": 5, "attn_pooler_heads": 4}
VISION: dict[str, dict[str, Any]] = {
    "tok": {},
    "avg": {"pool_type": "avg"},
    "none": {"pool_type": "none"},
    "tok-norm-after": {"final_ln_after_pool": True},
    "avg-norm-after": {"pool_type": "avg", "final_ln_after_pool": True},
    "none-norm-after": {"pool_type": "none", "final_ln_after_pool": True},
    "attention": {"attentional_pool": True, **ATTENTION},
    "attention-avg": {"attentional_pool": True, "pool_type": "avg", **ATTENTION},
    "attention-none": {"attentional_pool": True, "pool_type": "none", **ATTENTION},
    "attention-parallel": {"attentional_pool": "parallel", "width": 24, **ATTENTION},
    "attention-cascade": {"attentional_pool": "cascade", "width": 24, **ATTENTION},
    "no-norm-before": {"no_ln_pre": True},
    "fixed-places": {"pos_embed_type": "sin_cos_2d", "pool_type": "avg"},
    "own-blocks": {"qk_norm": True, "scale_fc": True, "ls_init_value": 0.1},
    "not-square": {"image_size": [32, 48]},
}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 64}
TIMM: dict[str, dict[str, Any]] = {
    "vit-token-linear": {"timm_model_name": "test_vit", "timm_pool": "token", "image_size": 160},
    "vit-avg-mlp": {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "mlp", "image_size": 160},
    "vit-map-none": {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none", "image_size": 160},
    "vit-own-head": {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "", "image_size": 160},
    "cnn-avg-linear": {"timm_model_name": "test_efficientnet", "timm_proj_bias": True, "image_size": 64},
    "cnn-own-head": {"timm_model_name": "test_resnet", "timm_proj": "", "image_size": 64},
    "cnn-attention": {
        "timm_model_name": "test_efficientnet", "timm_pool": "rot_attn", "timm_proj": "", "image_size": 160,
    },
    "cnn-attention-abs": {
        "timm_model_name": "test_efficientnet", "timm_pool": "abs_attn", "timm_proj": "linear", "image_size": 160,
    },
}  # fmt: skip
WORDS: dict[str, dict[str, Any]] = {
    "argmax": {},
    "eos": {"pool_type": "eos", "eos_id": 49407},
    "eos-missing": {"pool_type": "eos", "eos_id": 5},
    "first": {"pool_type": "first"},
    "last": {"pool_type": "last"},
    "none": {"pool_type": "none"},
    "last-both-ways": {"pool_type": "last", "no_causal_mask": True},
    "argmax-both-ways": {"no_causal_mask": True},
    "no-projection": {"proj_type": "none"},
    "biased-projection": {"proj_bias": True},
}


def pixels(encoder: OpenClipImage) -> torch.Tensor:
    return encoder.collate(samples())["pixels"]


@torch.no_grad()
def agrees(encoder: OpenClipImage, model: Any) -> None:
    ours, theirs = encoder.encode(samples()).values, model.encode_image(pixels(encoder))
    theirs = theirs if theirs.ndim == 3 else theirs.unsqueeze(1)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", VISION)
def test_vision_transformer_gives_open_clips_vectors(case: str, published: Published) -> None:
    model, folder = published(VISION[case], quick_gelu=case == "tok")
    encoder = OpenClipImage(IMAGE, folder=str(folder))
    agrees(encoder, model)
    several = case in ("none", "none-norm-after", "attention-none")
    assert encoder.spec.output == ("multivector" if several else "vector")
    assert encoder.dim == 24 and encoder.layers == 2
    tokens = encoder(encoder.collate(samples()[:1]))
    assert tokens.dim == encoder.token_dim
    assert tokens.values.shape[1] == {"attention-none": 5, "not-square": 25}.get(case, 17)


@pytest.mark.parametrize("custom", [False, True])
def test_resnet_gives_open_clips_vectors(custom: bool, published: Published) -> None:
    model, folder = published(RESNET, custom=custom)
    encoder = OpenClipImage(IMAGE, folder=str(folder))
    agrees(encoder, model)
    assert encoder.layers is None and len(encoder.blocks()) == 4
    assert encoder(encoder.collate(samples())).values.shape == (4, 4, 256)  # a map of 2 x 2 places


@pytest.mark.parametrize("case", TIMM)
def test_timm_towers_give_open_clips_vectors(case: str, published: Published) -> None:
    config = dict.fromkeys(("layers", "width", "head_width", "patch_size")) | TIMM[case]
    vision = {key: value for key, value in config.items() if value is not None}
    model, folder = published(vision, embed_dim=96 if case == "vit-map-none" else 24)
    encoder = OpenClipImage(IMAGE, folder=str(folder))
    agrees(encoder, model)
    assert encoder(encoder.collate(samples())).values.shape[1] > 1, "the tokens are not pooled yet"
    assert (encoder.layers or 0) == (len(encoder.blocks()) if case.startswith("vit") else 0)


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("case", WORDS)
@torch.no_grad()
def test_text_transformer_gives_open_clips_vectors(case: str, custom: bool, published: Published) -> None:
    model, folder = published(text=WORDS[case], custom=custom)
    encoder = OpenClipText(TEXT, folder=str(folder))
    with pytest.warns(UserWarning, match="1 of 4 texts are longer than 12 tokens"):
        ours = encoder.encode(TEXTS, batch_size=2).values
    theirs = model.encode_text(open_clip.SimpleTokenizer(context_length=12)(TEXTS))
    assert encoder.spec.output == ("multivector" if case == "none" else "vector")
    torch.testing.assert_close(ours, theirs if case == "none" else theirs.unsqueeze(1), atol=1e-5, rtol=1e-5)
    assert encoder.dim == theirs.shape[-1] and encoder.layers == 2


@torch.no_grad()
def test_class_token_of_coca_is_the_vector(published: Published) -> None:
    model, folder = published(text={"embed_cls": True, "context_length": 11}, custom=True)
    encoder = OpenClipText(TEXT, folder=str(folder))
    theirs = model.encode_text(open_clip.SimpleTokenizer(context_length=11)(TEXTS[:1]))
    torch.testing.assert_close(encoder.encode(TEXTS[:1]).vectors, theirs, atol=1e-5, rtol=1e-5)
    tokens = encoder(encoder.collate(TEXTS[:1]))
    assert tokens.values.shape[1] == 12 and tokens.mask[0, -1], "the class token comes last"
    assert tokens.mask.sum() == 6, "three words, their marks, and the class token"


def write_hugging_face(folder: Path, kind: str) -> None:
    """A tokeniser of whole words and a tiny architecture, as a checkpoint's folder carries them."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "heart", "two", "dogs", "x"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    small = {"vocab_size": len(words), "pad_token_id": 0}
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = {
        "bert": lambda: transformers.BertConfig(**small, **size),
        "roberta": lambda: transformers.RobertaConfig(**small, **size),
        "mt5": lambda: transformers.MT5Config(**small, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
    }[kind]()
    config.save_pretrained(folder / "text")


@pytest.mark.parametrize(
    ("kind", "pooler", "projection"),
    [("bert", "cls_pooler", "linear"), ("bert", "mean_pooler", "mlp"), ("roberta", "mean_pooler", "mlp"),
     ("roberta", "cls_last_hidden_state_pooler", "linear"), ("mt5", "mean_pooler", "linear")],
)  # fmt: skip
@torch.no_grad()
def test_hugging_face_towers_give_open_clips_vectors(
    kind: str, pooler: str, projection: str, tmp_path: Path, published: Published
) -> None:
    write_hugging_face(tmp_path, kind)
    text = {"hf_model_name": "text", "hf_tokenizer_name": "some/tokenizer", "hf_model_pretrained": False}
    text |= {"hf_pooler_type": pooler, "hf_proj_type": projection, "context_length": 6}
    model, folder = published(text=text, custom=True)
    encoder = OpenClipText(TEXT, folder=str(folder))
    items = ["a red heart", "two dogs", "x"]
    ids = open_clip.tokenizer.HFTokenizer(str(folder), context_length=6)(items)
    torch.testing.assert_close(encoder.encode(items).vectors, model.encode_text(ids), atol=1e-5, rtol=1e-5)
    assert len(encoder.blocks()) == 2 and encoder.layers is None
    assert encoder.collate(["x"])["ids"].shape == (1, 3), "padding is not computed"
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        encoder.encode(["two dogs two dogs two dogs", "a red heart x"])


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@torch.no_grad()
def test_preprocessing_is_open_clips(mode: str, published: Published) -> None:
    settings = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": mode}
    _, folder = published(preprocess=settings)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    encoder = OpenClipImage(IMAGE, folder=str(folder))
    picture = samples()[0].resize((70, 40))
    theirs = transform(read_image(picture))
    assert torch.equal(encoder.collate([picture])["pixels"][0], theirs)
    torch.testing.assert_close(
        encoder.encode([picture]).vectors, model.encode_image(theirs[None]), atol=1e-5, rtol=1e-5
    )
    assert json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]["resize_mode"] == mode
