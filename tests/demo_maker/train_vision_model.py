"""Train the demo's small vision model: a CLIP that knows ten shapes, ten colours and ten places.

Owns the training pictures and the loss; prints the held-out figures of `evaluate_vision_model`. The bundled
weights: `python -m tests.demo_maker.train_vision_model OUT`, then the same with `--resume` and
`--seed 8 --rate 1e-3 --steps 500 --pictures 10000`, `--seed 9 --rate 1e-3 --steps 900 --pictures 24000`,
`--seed 10 --rate 8e-4 --steps 1000 --pictures 30000`, `--seed 11 --rate 6e-4 --steps 1600 --pictures 40000`.
Pictures and order follow from the seed; the weights still differ a little between machines and torch versions.
The (shape, colour, place) combinations of the demo's own clips are never trained on.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import open_clip
import torch
import torch.nn.functional as nnf
from safetensors.torch import save_file

from cluster.models.vision import load_vision_model
from tests.demo_maker.evaluate_vision_model import report
from tests.demo_maker.scenes import random_scene, render
from tests.demo_maker.screenplay import CLIPS
from tests.demo_maker.vocabulary import COLOURS, PLACES, SHAPES, Scene, caption_for

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 512,
        "vision_cfg": {
            "image_size": 96,
            "layers": [1, 1, 2, 1],
            "width": 16,
            "head_width": 64,
            "patch_size": None,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 56, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}
IMAGE_PX: int = CONFIG["model_cfg"]["vision_cfg"]["image_size"]
FRAMES = ((256, 144), (320, 180), (384, 216), (192, 192), (144, 256))
_FRAME_SHARES = (0.35, 0.35, 0.2, 0.05, 0.05)
_ANY = -1
Pictures = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]


def main() -> None:
    """Render, train, save and print the held-out figures."""
    options = _parser().parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    pictures, truths = rendered(options.pictures, options.seed, options.workers)
    print(f"rendered {len(pictures)} pictures in {time.monotonic() - began:.0f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        (options.out / "open_clip_model.safetensors").unlink(missing_ok=True)
    (options.out / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    model = _new_model(options.out)
    began = time.monotonic()
    _train(model, pictures, truths, options)
    print(f"trained in {time.monotonic() - began:.0f} s", flush=True)
    save(model, options.out)
    report(load_vision_model(str(options.out), None, "cpu"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory for open_clip_config.json and open_clip_model.safetensors")
    parser.add_argument("--pictures", type=int, default=30_000)
    parser.add_argument("--steps", type=int, default=1_400)
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resume", action="store_true", help="go on from the weights that OUT holds")
    return parser


def rendered(count: int, seed: int, workers: int) -> tuple[Pictures, Ids]:
    """`count` pictures (n, px, px, 3) of random scenes and what they show (n, 3: shape, colour, place)."""
    chunk = 250
    jobs = [(seed, first, min(chunk, count - first)) for first in range(0, count, chunk)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        parts = list(pool.map(_rendered_chunk, jobs))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _rendered_chunk(job: tuple[int, int, int]) -> tuple[Pictures, Ids]:
    seed, first, count = job
    rng = np.random.default_rng((seed, first))
    pictures = np.empty((count, IMAGE_PX, IMAGE_PX, 3), np.uint8)
    truths = np.empty((count, 3), np.int64)
    for i in range(count):
        scene = _unseen_in_clips(rng)
        width, height = FRAMES[int(rng.choice(len(FRAMES), p=_FRAME_SHARES))]
        pictures[i] = _degraded(rng, render(scene, float(rng.uniform(0, 9)), width, height))
        truths[i] = ids_of(scene)
    return pictures, truths


def _unseen_in_clips(rng: np.random.Generator) -> Scene:
    kept_out = {(scene.shape, scene.colour, scene.place) for clip in CLIPS for scene in clip.scenes}
    while True:
        scene = random_scene(rng)
        if (scene.shape, scene.colour, scene.place) not in kept_out:
            return scene


def _degraded(rng: np.random.Generator, frame: Pictures) -> Pictures:
    """Squash to the model's square, now and then softened, dimmed or with a codec's blocks in it."""
    if rng.random() < 0.5:
        quality = int(rng.integers(30, 95))
        _, coded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
        frame = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    squashed = cv2.resize(
        frame, (IMAGE_PX, IMAGE_PX), interpolation=int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR]))
    )
    light = rng.normal(1.0, 0.06) * squashed.astype(np.float32) + rng.normal(0, 6) + rng.normal(0, 2.5, squashed.shape)
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def ids_of(scene: Scene) -> tuple[int, int, int]:
    """The scene as three indices into SHAPES, COLOURS and PLACES."""
    return list(SHAPES).index(scene.shape), list(COLOURS).index(scene.colour), list(PLACES).index(scene.place)


def _new_model(directory: Path) -> torch.nn.Module:
    model: torch.nn.Module = open_clip.create_model(f"local-dir:{directory}")
    return model.to(memory_format=torch.channels_last)


def _train(model: torch.nn.Module, pictures: Pictures, truths: Ids, options: argparse.Namespace) -> None:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.steps, pct_start=0.08)
    tokenizer = _tokenizer()
    model.train()
    began = time.monotonic()
    for step, (images, texts, positive) in enumerate(_batches(pictures, truths, tokenizer, options)):
        loss = _contrastive_loss(model, images, texts, positive)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(60))  # type: ignore[operator]
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f} after {time.monotonic() - began:.0f} s", flush=True)
            save(model, options.out)
    model.eval()


def _batches(
    pictures: Pictures, truths: Ids, tokenizer: open_clip.SimpleTokenizer, options: argparse.Namespace
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Pictures, one caption of each (all or part of it), and which captions are true of which picture."""
    rng = np.random.default_rng(options.seed)
    mean, std = CONFIG["preprocess_cfg"]["mean"][0], CONFIG["preprocess_cfg"]["std"][0]
    for _ in range(options.steps):
        chosen = rng.choice(len(pictures), options.batch, replace=False)
        images = torch.from_numpy(pictures[chosen]).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
        images = _shifted(rng, images)
        said = np.where(_parts_said(rng, options.batch), truths[chosen], _ANY)
        texts = tokenizer([_caption_of(rng, ids) for ids in said])
        true = ((said[None] == _ANY) | (said[None] == truths[chosen][:, None])).all(axis=2)
        yield images, texts, torch.from_numpy(true)


def _shifted(rng: np.random.Generator, images: torch.Tensor) -> torch.Tensor:
    """Mirror half of the batches and move the picture by a few pixels, which no caption speaks of."""
    if rng.random() < 0.5:
        images = images.flip(3)
    down, right = (int(shift) for shift in rng.integers(-6, 7, 2))
    return images.roll((down, right), (2, 3))


def _parts_said(rng: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
    """For each caption which of shape, colour and place it speaks of: mostly all three."""
    choices = np.array([(1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)], bool)
    shares = (0.52, 0.12, 0.08, 0.04, 0.09, 0.07, 0.08)
    return np.asarray(choices[rng.choice(len(choices), count, p=shares)])


def _caption_of(rng: np.random.Generator, ids: Ids) -> str:
    shape, colour, place = (
        None if index == _ANY else list(names)[index]
        for names, index in zip((SHAPES, COLOURS, PLACES), ids, strict=True)
    )
    return caption_for(rng, shape, colour, place)


def _contrastive_loss(
    model: torch.nn.Module, images: torch.Tensor, texts: torch.Tensor, positive: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric cross entropy, the target shared among all pairs that are true: no false negatives."""
    with torch.autocast("cpu", torch.bfloat16):
        image_rows, text_rows, scale = model(images.contiguous(memory_format=torch.channels_last), texts)[:3]
    logits = scale.float() * image_rows.float() @ text_rows.float().T
    true = positive.float()
    by_image = nnf.cross_entropy(logits, true / true.sum(1, keepdim=True))
    by_text = nnf.cross_entropy(logits.T, true.T / true.T.sum(1, keepdim=True))
    return (by_image + by_text) / 2


def save(model: torch.nn.Module, directory: Path) -> None:
    """Write the weights in half precision; words that no caption uses become zero and say nothing."""
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    unused = torch.ones(len(state["token_embedding.weight"]), dtype=torch.bool)
    unused[_used_tokens()] = False
    state["token_embedding.weight"][unused] = 0
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    weights = directory / "open_clip_model.safetensors"
    save_file(halves, weights, metadata={"format": "pt"})
    weights.chmod(0o644)


def _used_tokens() -> torch.Tensor:
    rng = np.random.default_rng(0)
    captions = [
        _caption_of(rng, np.where(said, ids, _ANY))
        for said, ids in zip(_parts_said(rng, 20_000), rng.integers(0, 10, (20_000, 3)), strict=True)
    ]
    used: torch.Tensor = _tokenizer()(captions).unique()
    return used


def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=CONFIG["model_cfg"]["text_cfg"]["context_length"])


if __name__ == "__main__":
    main()
