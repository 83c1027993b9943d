"""How well frames fit their caption in the space of a CLIP model: text alignment where captions have no attributes."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onestep.core.redaction import SafeError
from onestep.core.storage import fetch, list_files, open_folder

_FRAMES_AT_ONCE = 64


class TextModelError(SafeError):
    """A folder is not a usable CLIP model; the message names it and the reason."""


class TextAlignment:
    """A CLIP model (Radford et al., arXiv 2103.00020) from a folder in transformers layout, by local path or fsspec URL."""

    def __init__(self, url: str) -> None:
        """Load the model, its tokenizer and its image settings; raises `TextModelError`."""
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        with _local(url) as folder:
            try:
                self._model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
                self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                self._images = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
            except (OSError, ValueError) as error:
                raise TextModelError(f"{url} is not a CLIP model that transformers can load: {error}") from error

    def score(self, frames: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """Cosine similarity of each clip `[N, T, H, W, 3]` uint8 and its caption, averaged over frames, `[N]` in [-1, 1]."""
        import torch
        from torch.nn import functional

        limit = self._model.config.text_config.max_position_embeddings
        with torch.no_grad():
            tokens = self._tokenizer(
                list(captions), padding=True, truncation=True, max_length=limit, return_tensors="pt"
            )
            text = self._model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            pictures = list(frames.reshape(-1, *frames.shape[2:]))
            found = []
            for first in range(0, len(pictures), _FRAMES_AT_ONCE):
                batch = self._images(pictures[first : first + _FRAMES_AT_ONCE], return_tensors="pt")
                found.append(_states(self._model.get_image_features(pixel_values=batch.pixel_values)))
            images = functional.normalize(torch.cat(found), dim=-1).unflatten(0, frames.shape[:2])
            text = functional.normalize(_states(text), dim=-1)
            return (images * text[:, None]).sum(-1).mean(1).double().numpy()


def _states(output: Any) -> Any:
    """The projected states, which transformers 5 returns within an output object."""
    return output if hasattr(output, "unflatten") else output.pooler_output


@contextmanager
def _local(url: str) -> Iterator[Path]:
    """The folder itself where it is local, else a temporary copy of it."""
    fs, root = open_folder(url)
    if "file" in fs.protocol:
        yield Path(root)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in list_files(fs, root):
            if name.endswith((".json", ".safetensors", ".txt")):
                fetch(fs, f"{root}/{name}", Path(temporary) / name)
        yield Path(temporary)
