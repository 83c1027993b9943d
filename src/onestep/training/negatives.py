"""Captions that a clip does not have: the negatives of the contrastive text term."""

import torch
from torch import Tensor

_ROWS = 1024  # captions compared at once


class Negatives:
    """For each caption the others, or only the nearest of them: a wrong word is harder to see than a wrong sentence."""

    def __init__(self, states: Tensor, nearest: int | None) -> None:
        """states: text states `[N, L, D]` of the distinct captions; nearest: how many to choose from, None = all."""
        self.states = states
        self.count = min(nearest or len(states) - 1, len(states) - 1)
        self._nearest = _nearest(states.flatten(1), self.count) if nearest is not None else None

    def draw(self, text: Tensor, random: torch.Generator) -> Tensor:
        """Text states `[B, L, D]` of one wrong caption for each of the right ones `[B, L, D]`."""
        captions = torch.cdist(text.flatten(1), self.states.flatten(1)).argmin(1)
        place = torch.randint(self.count, (len(captions),), generator=random)
        if self._nearest is None:
            return self.states[(captions + 1 + place) % len(self.states)]
        return self.states[self._nearest[captions, place]]


def _nearest(flat: Tensor, count: int) -> Tensor:
    """The numbers `[N, count]` of the nearest other rows of `[N, F]`, by Euclidean distance."""
    found = []
    for start in range(0, len(flat), _ROWS):
        distances = torch.cdist(flat[start : start + _ROWS], flat)
        own = torch.arange(len(distances))
        distances[own, start + own] = torch.inf
        found.append(distances.topk(count, largest=False).indices)
    return torch.cat(found)
