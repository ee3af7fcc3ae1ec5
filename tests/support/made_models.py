"""Directories with models of any length, in the layouts that published ones have. Their weights are random."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from cluster.models.bundled import bundled_vision_directory
from cluster.models.text_files import model_directory

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SIGLIP_PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def text_model_of(folder: Path, length: int) -> Path:
    """The bundled text model with a layer behind it that makes so many numbers."""
    torch.manual_seed(length)
    whole = SentenceTransformer(str(model_directory("bundled")), device="cpu", local_files_only=True)
    whole.append(Dense(whole.get_embedding_dimension() or 0, length))
    whole.save(str(folder))
    return folder


def set_prompts(folder: Path, prompts: dict[str, str]) -> None:
    """As a model's configuration has them."""
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": prompts}))


def vision_model_of(folder: Path, length: int) -> Path:
    """A CLIP as small as the bundled one that makes so many numbers."""
    config = json.loads((bundled_vision_directory() / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = length
    return _saved(folder, config["model_cfg"], config["preprocess_cfg"])


def siglip_model_of(folder: Path, architecture: str, **smaller: Any) -> Path:
    """A model of a SigLIP architecture, with a tokenizer of single letters; ``smaller``: parts of its text tower."""
    config = open_clip.get_model_config(architecture)
    config["text_cfg"] |= {"vocab_size": 64, **smaller}
    _saved(folder, config, SIGLIP_PREPROCESS)
    _save_tokenizer(folder, int(config["text_cfg"]["context_length"]))
    return folder


def _saved(folder: Path, config: dict[str, Any], preprocess: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(7)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def _save_tokenizer(folder: Path, most: int) -> None:
    vocabulary = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{letter: 3 + n for n, letter in enumerate(LETTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "padding_side": "right",
        "model_max_length": most,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
