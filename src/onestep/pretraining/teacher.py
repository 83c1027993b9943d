"""Training the bundled teacher: a `WanTransformer3DModel` and its text encoder by flow matching, then the whole pipeline.

Noise levels are logit-normal (arXiv 2403.03206); the loss is the velocity's squared error in both forms: for a network
that predicts the sample, `‖x̂ − x‖²/t²` with t held at 0.2 or more (arXiv 2511.13720, x-prediction with v-loss).
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from onestep.core.storage import read_json, reading, replacing_folder, sha256_folder, write_json
from onestep.data.clips import read_index
from onestep.demo import world
from onestep.models.ema import EMA
from onestep.models.families.wan import normalised_latents
from onestep.models.pipeline import VideoPipeline, mix, predict_sample
from onestep.pretraining.settings import TeacherTraining
from onestep.pretraining.vae import ClipSet
from onestep.training.accelerator import make_accelerator
from onestep.training.batches import Batches, seeded
from onestep.training.optimizer_step import lr_cosine, lr_warmup, optimizer_step, set_lr_scale
from onestep.training.optimizers import Muon, split_parameters
from onestep.training.plan import Plan, finish, make_trainer

SMALLEST_T = 0.2  # below, a narrow network's own floor would drown the noisy levels that few steps live on
LEVEL_MEAN, LEVEL_SPREAD = 0.3, 1.2  # of logit(t): a little towards noise, where few-step sampling lives
PREVIEW_STEPS = 8
MAX_NORM = 1.0  # of the gradient; a larger one is clipped
LATENTS = "latents.safetensors"
CAPTIONS = "captions.json"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the world's words; every caption ends with `</s>`."""
    words = sorted({word for scene in world.scenes() for word in scene.caption.split()})
    vocabulary = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def build_teacher(settings: TeacherTraining, channels: int, words: int) -> nn.ModuleDict:
    """The untrained transformer and text encoder."""
    torch.manual_seed(settings.seed)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=settings.heads,
        attention_head_dim=settings.head_dim,
        in_channels=channels,
        out_channels=channels,
        text_dim=settings.text_dim,
        freq_dim=128,
        ffn_dim=4 * settings.heads * settings.head_dim,
        num_layers=settings.layers,
        rope_max_seq_len=64,
    )
    nn.init.zeros_(transformer.proj_out.weight)
    text_encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=words,
            d_model=settings.text_dim,
            d_kv=settings.text_dim // 4,
            d_ff=2 * settings.text_dim,
            num_layers=settings.text_layers,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    return nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})


class EncodedClips:
    """The training split's latents and caption numbers, held in memory."""

    def __init__(self, folder: Path) -> None:
        with reading(folder / LATENTS, "latents", "run pretrain latents again"):
            content = load_file(folder / LATENTS)
            self.latents, self.caption_numbers = content["latents"], content["caption_numbers"]
        self.captions: list[str] = read_json(folder / CAPTIONS, list)

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Latents `[B, C, T, H, W]` and caption numbers `[B]`."""
        return self.latents[list(positions)], self.caption_numbers[list(positions)]


def encode_clips(clips: Path, vae_folder: Path, out: Path, batch: int = 32) -> None:
    """Normalised latents and caption numbers of the training split, encoded once for every try at the teacher."""
    from rich.progress import track

    pixels = ClipSet(clips, "train")
    vae = AutoencoderKLWan.from_pretrained(vae_folder).eval().requires_grad_(False)
    starts = track(range(0, len(pixels), batch), description="encoding")
    latents = torch.cat([normalised_latents(vae, pixels.frames[i : i + batch]) for i in starts])
    captions = sorted(pixels.index.caption.unique())
    numbers = {caption: number for number, caption in enumerate(captions)}
    with replacing_folder(out) as partial:
        content = {
            "latents": latents,
            "caption_numbers": torch.tensor([numbers[caption] for caption in pixels.index.caption]),
        }
        save_file(content, partial / LATENTS)
        write_json(partial / CAPTIONS, captions)


class TeacherMethod:
    """Flow matching on latents, text encoder and transformer together."""

    def __init__(
        self,
        networks: nn.ModuleDict,
        pipeline: VideoPipeline,
        captions: list[str],
        settings: TeacherTraining,
        preview_captions: list[str],
        accelerator: Accelerator,
    ) -> None:
        self.networks, self.pipeline, self.settings, self.accelerator = networks, pipeline, settings, accelerator
        if settings.compile:
            for block in pipeline.transformer.blocks:
                block.compile()
        tokenizer = pipeline.stock.tokenizer
        self._tokens = {
            name: tokenizer(
                texts, padding="max_length", max_length=settings.text_tokens, truncation=True, return_tensors="pt"
            )
            for name, texts in {"captions": [*captions, ""], "preview": preview_captions, "empty": [""]}.items()
        }
        matrices, rest = split_parameters(networks, ["transformer.blocks"])
        self.modules: dict[str, Any] = {"networks": networks}
        self.optimizers: dict[str, Any] = {
            "muon": Muon(matrices, settings.muon_lr),
            "adam": torch.optim.AdamW(rest, settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
        }
        self.ema = EMA(networks, settings.ema)
        self.emas: dict[str, Any] = {"networks": self.ema}
        self.snapshots: dict[str, dict[str, Tensor]] = {}
        self.lr_scale = 1.0
        shape = (len(preview_captions), *pipeline.latent_shape(13, 64, 64))
        self._noise = torch.randn(shape, generator=seeded(settings.seed, "preview"))

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One flow-matching step."""
        s = self.settings
        optimizers = self.optimizers.values()
        set_lr_scale(optimizers, self.lr_scale * lr_warmup(step, s.warmup) * lr_cosine(step, s.updates))
        numbers = optimizer_step(
            self.loss, [self.networks], optimizers, self.accelerator, batches, step, max_norm=MAX_NORM
        )
        self.ema.update(self.networks)
        return numbers

    def loss(self, x: Tensor, numbers: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of latents `[B, C, T, H, W]` with caption numbers `[B]`, some of which are dropped."""
        s = self.settings
        dropped = torch.rand(len(x), generator=random) < s.caption_dropout
        numbers = numbers.masked_fill(dropped, len(self._tokens["captions"].input_ids) - 1)
        text = self._encode(self.networks["text_encoder"], "captions", numbers)
        t = torch.sigmoid(LEVEL_MEAN + LEVEL_SPREAD * torch.randn(len(x), generator=random))
        noise = torch.randn(x.shape, generator=random)
        predicted = predict_sample(self.networks["transformer"], mix(x, noise, t), t, text, self.pipeline.form)
        per_clip = (predicted - x).square().mean(dim=(1, 2, 3, 4)) / t.clamp(min=SMALLEST_T).square()
        loss = per_clip.mean()
        return loss, {"velocity_loss": loss.item()}

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Samples of the networks' EMA for the preview captions, without guidance."""
        averaged = copy.deepcopy(self.networks)
        self.ema.copy_to(averaged)
        text = self._encode(averaged["text_encoder"], "preview", torch.arange(len(self._noise)))
        original, self.pipeline.transformer = self.pipeline.transformer, averaged["transformer"]
        latents = self.pipeline.denoise(self._noise, text, PREVIEW_STEPS, 1.0)
        self.pipeline.transformer = original
        return latents

    def _encode(self, encoder: nn.Module, which: str, rows: Tensor) -> Tensor:
        ids, mask = self._tokens[which].input_ids[rows], self._tokens[which].attention_mask[rows]
        return encoder(ids, mask).last_hidden_state * mask.unsqueeze(2)


def assemble(networks: nn.ModuleDict, vae: AutoencoderKLWan, form: str) -> WanPipeline:
    """The parts as one stock pipeline."""
    prediction = {"flow": "flow_prediction", "sample": "sample"}[form]
    return WanPipeline(
        tokenizer=build_tokenizer(),
        text_encoder=networks["text_encoder"],
        vae=vae,
        transformer=networks["transformer"],
        scheduler=UniPCMultistepScheduler(prediction_type=prediction, use_flow_sigmas=True, flow_shift=1.0),
    )


def train_teacher(
    clips: Path, latents_folder: Path, vae_folder: Path, out: Path, curves: Path, settings: TeacherTraining
) -> None:
    """Train the transformer and the text encoder on the clips' latents and write the whole pipeline folder."""
    vae = AutoencoderKLWan.from_pretrained(vae_folder)
    networks = build_teacher(settings, vae.config.z_dim, len(build_tokenizer()))
    pipeline = VideoPipeline(assemble(networks, vae, settings.form), {})
    networks.train().requires_grad_(True)
    latents = EncodedClips(latents_folder)
    preview = read_index(clips).query("split == 'dev'").caption.tolist()[:12]
    accelerator = make_accelerator("fp32", 1)
    method = TeacherMethod(networks, pipeline, latents.captions, settings, preview, accelerator)
    plan = Plan(
        stage="teacher",
        request={
            "settings": settings.model_dump(mode="json"),
            "latents": sha256_folder(latents_folder),
            "vae": sha256_folder(vae_folder),
        },
        updates=settings.updates,
        samples_every=settings.samples_every,
        checkpoint_every=settings.checkpoint_every,
        curves=curves,
        decode=pipeline.decode_video,
        captions=preview,
    )
    make_trainer(plan, accelerator).fit(method, Batches(latents, settings.batch, accelerator, settings.seed))
    method.ema.copy_to(networks)
    first = read_index(clips).iloc[0]
    with replacing_folder(out) as partial:
        pipeline.save(
            partial,
            name="tiny-wan",
            frames=int(first.frames),
            height=int(first.height),
            width=int(first.width),
            fps=float(first.fps),
            text_tokens=settings.text_tokens,
        )
    finish(plan)
