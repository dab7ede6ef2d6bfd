"""Real texts, small checkpoints, and a machine without a network."""

from __future__ import annotations

import ast
import socket
import sysconfig
from pathlib import Path

import pytest

from coembed import EncoderSpec
from coembed_text.hf import HfText
from coembed_text.tiny import write_checkpoint, write_layout

HF = EncoderSpec(name="text/hf", modality="text", dim=None, target="coembed_text.hf:HfText")
MODULES = ("argparse", "ast", "asyncio/tasks", "collections/__init__", "csv", "datetime", "decimal", "email/message",
           "fractions", "functools", "http/client", "inspect", "ipaddress", "logging/__init__", "pathlib", "random",
           "shutil", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading",
           "typing", "unittest/case", "unittest/mock", "urllib/request", "zipfile")  # fmt: skip


@pytest.fixture(scope="session")
def docstrings() -> list[str]:
    """500 docstrings of the standard library, every twentieth whole and the others to the end of a paragraph."""
    texts: list[str] = []
    for name in MODULES:
        path = Path(sysconfig.get_path("stdlib")) / f"{name}.py"
        if path.is_file():
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    texts.append(ast.get_docstring(node) or "")
    texts = list(dict.fromkeys(text for text in texts if text))
    assert len(texts) >= 500
    texts = texts[:: len(texts) // 500][:500]
    return [text if i % 20 == 0 else text.partition("\n\n")[0] for i, text in enumerate(texts)]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain Hugging Face checkpoint of three layers and width 32."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    write_checkpoint(path, dim=32, layers=3, max_length=128)
    return path


@pytest.fixture
def make_layout(folder: Path):
    """Turn the checkpoint into a sentence-transformers folder with the given modules after the transformer."""

    def make(
        *modules: tuple[str, str, dict[str, object]], body: str = "sentence_transformers.models.Transformer"
    ) -> Path:
        write_layout(folder, [("", body, {}), *modules])
        return folder

    return make


@pytest.fixture
def load():
    """Build `text/hf` from a folder."""
    return lambda path, **kwargs: HfText(HF, model=str(path), **kwargs)
