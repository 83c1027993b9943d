"""The judge's attribute probe: which word of each attribute a clip shows."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onestep.evaluation.network import Depths

Vocabulary = dict[str, tuple[str, ...]]  # the words of each attribute, in the order of the probe's classes


class AttributeProbe(nn.Module):
    """A linear probe on mean and maximum of the deepest map."""

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        """vocabulary: empty for a judge that names no attributes; width: channels of the deepest map."""
        super().__init__()
        self.vocabulary = vocabulary
        self.linear = nn.Linear(2 * width, sum(len(words) for words in vocabulary.values()))

    def forward(self, depths: Depths) -> dict[str, Tensor]:
        """Logits `[N, classes]` of each attribute's words."""
        deepest = depths.maps[-1]
        pooled = torch.cat([deepest.mean((2, 3, 4)), deepest.amax((2, 3, 4))], dim=1)
        logits = self.linear(pooled).split([len(words) for words in self.vocabulary.values()], dim=1)
        return dict(zip(self.vocabulary, logits, strict=True))


def likeliest(probabilities: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """The likeliest word of each clip `[N]`, of probabilities `[N, classes]`."""
    return np.array(words)[probabilities.argmax(1)]


def attribute_hits(
    probabilities: Mapping[str, np.ndarray], asked: Mapping[str, Sequence[str]], vocabulary: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """Whether the judge's likeliest word is the caption's, `[N]` of each attribute in `asked`."""
    return {name: likeliest(probabilities[name], vocabulary[name]) == np.array(words) for name, words in asked.items()}
